package custody

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/policy"
)

// sentences say what each act does, in the words of who must decide.
var sentences = map[policy.Act]string{
	policy.AddOfficer:       "Add an officer, who may propose and approve changes from then on",
	policy.RemoveOfficer:    "Remove an officer; approvals that it gave to changes not yet applied count no more",
	policy.ReplaceOfficer:   "Replace an officer's SSH key; approvals by the old key count no more",
	policy.SetQuorum:        "Set how many officers other than its author must approve a change",
	policy.CreateKeySet:     "Create a key set, without keys",
	policy.UpdateKeySet:     "Replace what a key set is, all of the following",
	policy.CreateKey:        "Make new keys inside the token",
	policy.ImportKey:        "Take keys into the token in a ceremony",
	policy.ExportKey:        "Write keys out of the token, as key blocks under a transport key: whoever has that key has these",
	policy.ActivateKey:      "Let keys sign",
	policy.SuspendKey:       "Stop keys from signing and verifying until they are resumed",
	policy.ResumeKey:        "Let suspended keys sign again",
	policy.DeactivateKey:    "Stop keys from signing for ever; they verify what they signed",
	policy.CompromiseKey:    "Say that others may have these keys: they sign no more, and what they verify is flagged",
	policy.DestroyKey:       "Destroy keys in the token and their copies here: what they signed can be verified no more, and they never come back",
	policy.ImportTransport:  "Take a transport key into the token in a ceremony",
	policy.DestroyTransport: "Destroy a transport key in the token",
	policy.CreateBackup:     "Make a new backup key in a ceremony; copies under the old one are made anew",
	policy.AddClient:        "Add a client, who may do what the policy lets a client of its role and key sets",
	policy.ReplaceClient:    "Replace a client's identity, role and key sets, all of the following",
	policy.RemoveClient:     "Remove a client: it may do nothing from then on",
	policy.SuspendClient:    "Suspend a client, at once and without approvals: it may do nothing until officers resume it",
	policy.ResumeClient:     "Let a suspended client call again",
	policy.SetPolicy:        "Replace policy documents or limits: what all clients may do, and up to how much",
	policy.ResetPurse:       "Forget what a card's purse has proved, because the card was issued again; its old card must be out of use",
}

// Words are a change in plain words, for an officer who is about to sign it: every member, and nothing that a terminal acts on. What
// a person wrote is quoted, with every character that is not printable, or that turns the line's direction, escaped; and it is broken into short
// lines, each in quotes, for a terminal that breaks a long one would show its rest as a line of ours.
func (c Change) Words() string {
	w := &words{}
	w.line("%s (%s).", sentences[c.Act], c.Act)
	switch {
	case c.Officer != nil:
		w.officer(*c.Officer)
	case c.Quorum != nil:
		w.quorum(*c.Quorum)
	case c.KeySet != nil:
		w.definition(*c.KeySet)
	case c.Keys != nil:
		w.keys(c)
	case c.Transport != nil:
		w.transport(*c.Transport)
	case c.Backup != nil:
		w.backup(*c.Backup)
	case c.Purse != nil:
		w.field("key set", quoted(c.Purse.KeySet))
		w.field("card", quoted(c.Purse.Card))
		w.some("issuer id", c.Purse.IssuerID)
		w.field("purse", quoted(c.Purse.Purse))
	case c.Client != nil:
		w.client(c.Act, *c.Client)
	case c.Policy != nil:
		w.policy(*c.Policy)
	}
	w.prose("reason", c.Reason)
	w.field("author", quoted(c.Author))
	w.field("proposed", moment(c.Proposed))
	w.field("expires", moment(c.Expires)+"; it is executed before, or not at all")
	w.field("rests on", quoted(c.Base))
	w.field("change", quoted(c.ID))
	w.field("form", quoted(c.Format))
	return w.String()
}

type words struct{ strings.Builder }

func (w *words) line(format string, arguments ...any) { fmt.Fprintf(w, format+"\n", arguments...) }

func (w *words) field(name, value string) { w.line("  %-12s %s", name, value) }

// some is a field that is left out when it is empty.
func (w *words) some(name, value string) {
	if value != "" {
		w.field(name, quoted(value))
	}
}

// proseWidth is how many columns of what a person wrote stand in one line, beside its quotes: with the field's name before it, it fits into 80.
const proseWidth = 60

// prose is a field of what a person wrote at length.
func (w *words) prose(name, text string) {
	start, width := 0, 0
	for i, r := range text {
		columns := len(strconv.QuoteRune(r)) - len("''")
		if r >= 0x1100 && strconv.IsPrint(r) {
			columns = 2 // at most: Chinese, Korean, pictures
		}
		if width += columns; width > proseWidth {
			w.field(name, strconv.Quote(text[start:i]))
			name, start, width = "", i, columns
		}
	}
	if start > 0 {
		w.field(name, strconv.Quote(text[start:]))
		return
	}
	w.field(name, quoted(text))
}

// quoted leaves a plain word as it is, and quotes anything else.
func quoted(text string) string {
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' || r == '`' }) {
		return text
	}
	return strconv.Quote(text)
}

func quotedAll(texts []string) string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = quoted(text)
	}
	return strings.Join(all, ", ")
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func (w *words) officer(o OfficerChange) {
	w.field("officer", quoted(o.Name))
	if o.Key == "" {
		return
	}
	w.field("key", fingerprint(o.Key))
	kind, base64, _ := strings.Cut(o.Key, " ")
	w.field("", quoted(kind)+" "+quoted(base64))
	if o.Recipient != "" {
		w.field("recipient", quoted(o.Recipient)+", for shares of backups")
	}
}

func (w *words) quorum(q policy.Quorum) {
	w.field("approvals", fmt.Sprintf("%d, by officers other than the author", q.Default))
	for _, act := range slices.Sorted(maps.Keys(q.Acts)) {
		text := fmt.Sprintf("%d of %s", q.Acts[act], quoted(string(act)))
		if act == policy.AtProcess {
			text += ", of keys that will be in the process's memory"
		}
		w.field("", text)
	}
}

func (w *words) definition(d Definition) {
	w.field("key set", quoted(d.Name))
	w.field("algorithm", d.Algorithm.String())
	w.field("profile", quoted(d.Profile))
	if d.Issuer == "" {
		w.field("issuer", "as the profile says")
	} else {
		w.field("issuer", quoted(d.Issuer))
	}
	for _, f := range d.Factors {
		w.field("", quoted(f))
	}
	w.field("time zone", quoted(d.TimeZone))
	w.field("card locks", fmt.Sprintf("after %d wrong MAC1", d.MAC1FailureLimit))
	for _, kver := range slices.Sorted(maps.Keys(d.TACVersion)) {
		w.field("", fmt.Sprintf("TACs of key version %d are by tac version %d", kver, d.TACVersion[kver]))
	}
}

func (w *words) keys(c Change) {
	w.field("key set", quoted(c.Keys.Set))
	for _, k := range c.Keys.Keys {
		text := fmt.Sprintf("%v version %d", k.Kind, k.Version)
		if k.Boundary != 0 {
			text += fmt.Sprintf(", boundary %v", k.Boundary)
		}
		if k.KCV != "" {
			text += ", check value " + quoted(k.KCV)
		}
		if k.Components != 0 {
			text += fmt.Sprintf(", from %d components", k.Components)
			if len(k.Custodians) > 0 {
				text += fmt.Sprintf(" of %s", quotedAll(k.Custodians))
			}
		}
		w.field("key", text)
	}
	if c.atProcess() {
		w.field("WARNING", "PROCESS: these masters will be in the memory of the signer, outside of the token, while they are in use")
	}
	switch {
	case !c.Keys.ActivateAt.IsZero():
		w.field("active", "from "+moment(c.Keys.ActivateAt)+", by themselves, on all nodes")
	case c.makesKeys():
		w.field("active", "only by another change")
	case c.Act == policy.ActivateKey:
		w.field("active", "at once")
	}
	switch {
	case !c.Keys.Due.IsZero():
		w.field("due", "to be replaced by "+moment(c.Keys.Due))
	case c.makesKeys():
		w.field("due", "never: no end of their use is set")
	}
	w.some("transport", c.Keys.Transport)
	switch {
	case c.Keys.WithoutBackup:
		w.field("backup", "NONE: when the token is lost, these keys are lost")
	case c.makesKeys():
		w.field("backup", "a copy under the backup key")
	}
}

func (w *words) transport(t TransportChange) {
	w.field("transport", quoted(t.Name))
	if t.Bits != 0 {
		w.field("length", fmt.Sprintf("%d bits, %s", t.Bits, t.checkValue().Algorithm))
	}
	w.field("check value", quoted(t.KCV))
	if t.Components != 0 {
		w.field("components", strconv.Itoa(t.Components))
		if len(t.Custodians) > 0 {
			w.field("custodians", quotedAll(t.Custodians))
		}
	}
}

func (w *words) backup(b BackupChange) {
	if b.Vault != "" {
		w.field("held by", "Vault's transit key "+quoted(b.Vault)+": whoever may use that key brings the masters back")
	}
	if b.Vault != "" && b.Threshold == 0 && len(b.Holders) == 0 {
		return
	}
	w.field("shares", fmt.Sprintf("any %d of these %d officers bring the masters back", b.Threshold, len(b.Holders)))
	w.field("holders", quotedAll(b.Holders))
}
