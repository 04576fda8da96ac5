package custody

import (
	"fmt"
	"strings"

	"github.com/pursekeeper/pursekeeper/policy"
)

func (w *words) client(act policy.Act, c ClientChange) {
	w.field("client", quoted(c.Name))
	if act == policy.AddClient || act == policy.ReplaceClient {
		w.clientIs("", c.becomes())
	}
	if c.Was != nil {
		w.clientIs("was ", *c.Was)
	}
	if c.Role == policy.Officer {
		w.field("WARNING", "OFFICER: whoever has this certificate acts as the officer of this name, if there is one, but for signing")
	}
}

func (w *words) clientIs(when string, c policy.Client) {
	if when != "" {
		w.field(when+"name", quoted(c.Name))
	}
	w.field(when+"identity", quoted(c.Identity))
	w.field(when+"role", quoted(string(c.Role)))
	if len(c.KeySets) == 0 {
		w.field(when+"sets", "no key set")
	} else {
		w.field(when+"sets", quotedAll(c.KeySets))
	}
	if c.MaxAmountFen != 0 {
		w.field(when+"amount", fmt.Sprintf("at most %d fen", c.MaxAmountFen))
	}
	if c.Suspended {
		w.field(when+"state", "SUSPENDED")
	}
}

func (w *words) policy(p PolicyChange) {
	for _, d := range p.Remove {
		w.field("REMOVED", "document "+quoted(d.Name))
		w.some("was SHA-256", d.Was)
	}
	for _, d := range p.Put {
		w.document("document "+quoted(d.Name), d.Text, d.Was)
	}
	switch {
	case p.Limits == nil:
	case p.Limits.Remove:
		w.field("REMOVED", "the limits: no document bounds what clients move")
		w.some("was SHA-256", p.Limits.Was)
		w.some("text", p.Limits.Text)
	default:
		w.document("the limits", p.Limits.Text, p.Limits.Was)
	}
}

// document is a document with its text, each of its lines in quotes.
func (w *words) document(what, text, was string) {
	if was == "" {
		w.field("NEW", what)
	} else {
		w.field("CHANGED", what)
		w.some("was SHA-256", was)
	}
	w.field("is SHA-256", digest([]byte(text)))
	n := 0
	for line := range strings.Lines(text) {
		n++
		w.prose(fmt.Sprint("line ", n), strings.TrimSuffix(line, "\n"))
	}
	if !strings.HasSuffix(text, "\n") {
		w.field("", "(its last line has no end)")
	}
}
