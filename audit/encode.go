package audit

import (
	"fmt"
	"slices"
	"time"
)

// Encode writes the entry as one line of JSON, canonically (see the package comment): two encodings of one entry are the same
// bytes. An entry that is longer than MaxSize is an error, and so is one without an event, an outcome or a time.
//
// The members are written one by one, in the order of their structs: every entry is encoded where all others wait for it. A text's byte that
// is no UTF-8 becomes U+FFFD.
func (e Entry) Encode() ([]byte, error) {
	if e.Event == "" || e.Outcome == "" || e.Time.IsZero() {
		return nil, fmt.Errorf("audit entry: event %q, outcome %q, time %v: all three are needed", e.Event, e.Outcome, e.Time)
	}
	e.Version = Version
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	if year := e.Time.Year(); year < 0 || year > 9999 {
		return nil, fmt.Errorf("audit entry: time is in the year %d, expected 0 to 9999", year)
	}
	var room [1024]byte // of most entries
	line := e.write(room[:0])
	if len(line) > MaxSize {
		return nil, fmt.Errorf("audit entry: %d bytes, expected at most %d", len(line), MaxSize)
	}
	return slices.Clone(line), nil
}

func (e *Entry) write(l line) line {
	l = append(l, '{').number("v", e.Version).time("time", e.Time).text("event", string(e.Event))
	l = l.optional("client", e.Client).optional("role", string(e.Role)).optional("policy", e.Policy)
	l = l.optional("keySet", e.KeySet).optional("card", e.Card).optional("device", e.Device).optional("purse", e.Purse)
	l = l.optional("transaction", e.Transaction).optional("settlement", e.Settlement).optional("session", e.Session)
	l = l.key("key", e.Key).optional("boundary", e.Boundary).key("tacKey", e.TACKey).optional("tacBoundary", e.TACBoundary)
	if e.Inputs != (Inputs{}) {
		l = append(e.Inputs.write(append(l.name("inputs"), '{')), '}')
	}
	l = l.text("outcome", e.Outcome).optional("detail", e.Detail).optional("mac2", e.MAC2).optional("mac1", e.MAC1)
	if len(e.Settled) > 0 {
		l = append(l.name("settled"), '[')
		for _, s := range e.Settled {
			l = append(l.next().text("transaction", s.Transaction).text("outcome", s.Outcome).text("evidence", s.Evidence), '}')
		}
		l = append(l, ']')
	}
	l = l.optional("command", e.Command)
	if e.Batch != nil {
		l = append(e.Batch.write(append(l.name("batch"), '{')), '}')
	}
	if len(e.Writes) > 0 {
		l = append(l.name("writes"), '[')
		for _, w := range e.Writes {
			l = append(l.next().key("key", &w.Key).text("boundary", w.Boundary).optional("challenge", w.Challenge), '}')
		}
		l = append(l, ']')
	}
	if e.Change != nil {
		l = append(e.Change.write(append(l.name("change"), '{')), '}')
	}
	return append(l, '}')
}

func (i *Inputs) write(l line) line {
	l = l.optional("initialize", i.Initialize).amount("amountFen", i.AmountFen).optional("terminal", i.Terminal)
	l = l.optional("date", i.Date).optional("time", i.Time).optional("tac", i.TAC).optional("mac3", i.MAC3)
	l = l.count("item", i.Item).count("keyVersion", i.KeyVersion).optional("type", i.Type)
	l = l.optional("terminalSerial", i.TerminalSerial).optional("counter", i.Counter)
	l = l.amount("balanceFen", i.BalanceFen).amount("oldLimitFen", i.OldLimitFen).amount("newLimitFen", i.NewLimitFen)
	l = l.optional("command", i.Command).optional("keyId", i.KeyID).optional("challenge", i.Challenge)
	l = l.optional("data", i.Data).optional("cryptogram", i.Cryptogram).optional("mac2", i.MAC2)
	l = l.optional("device", i.Device).optional("hostChallenge", i.HostChallenge).optional("deviceChallenge", i.DeviceChallenge)
	l = l.optional("deviceProof", i.DeviceProof).amount("sequence", uint64(i.Sequence)).count("length", i.Length)
	return l.yes("last", i.Last).optional("frameDigest", i.FrameDigest)
}

func (b *Batch) write(l line) line {
	l = l.number("items", b.Items).number("verified", b.Verified).number("mismatched", b.Mismatched).number("failed", b.Failed)
	l = l.text("digest", b.Digest)
	if len(b.Keys) == 0 {
		return l
	}
	l = append(l.name("keys"), '[')
	for _, k := range b.Keys {
		l = append(k.Key.write(l.next()).optional("boundary", k.Boundary).number("items", k.Items), '}')
	}
	return append(l, ']')
}

func (k *Key) write(l line) line {
	return l.text("set", k.Set).text("kind", k.Kind).number("version", k.Version).text("kcv", k.KCV)
}

func (c *Change) write(l line) line {
	l = l.optional("id", c.ID).optional("act", c.Act).optional("bytes", c.Bytes).optional("officer", c.Officer)
	l = l.optional("officerKey", c.OfficerKey).optional("signature", c.Signature)
	return l.amount("revision", c.Revision).optional("catalogue", c.Catalogue)
}
