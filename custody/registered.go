package custody

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
)

// registeredPart bounds the rules in one entry, in bytes as the entry quotes them; a document of the largest change has its place.
const registeredPart = maxChange + 1<<10

// Registered are the entries that say who decides, and by which rules, where no change in the record says it: of the first catalogue, and of one
// that was restored. The first has officers and quorum, as a catalogue without anything else; the others have the rules, in parts. digest is
// the whole catalogue's.
func Registered(c Catalogue, digest string, now time.Time) (entries []audit.Entry, err error) {
	add := func(event audit.Event, line []byte) {
		entries = append(entries, audit.Entry{Event: event, Time: now, Outcome: "OK", Change: &audit.Change{
			Bytes: string(line), Revision: c.Revision, Catalogue: digest,
		}})
	}
	officers, err := Catalogue{Revision: c.Revision, Quorum: c.Quorum, Officers: c.Officers}.Encode()
	if err != nil {
		return nil, err
	}
	add(audit.OfficersRegistered, officers)
	for rest := singles(c.Rules); len(rest) > 0; {
		var part policy.Rules
		var line []byte
		for len(rest) > 0 {
			more, err := encode(Joined(part, rest[0]))
			if err != nil {
				return nil, err
			}
			if inRecord, err := json.Marshal(string(more)); err != nil || line != nil && len(inRecord) > registeredPart {
				if err != nil {
					return nil, err
				}
				break
			}
			part, line, rest = Joined(part, rest[0]), more, rest[1:]
		}
		add(audit.RulesRegistered, line)
	}
	return entries, nil
}

// singles are the rules, each client and document by itself.
func singles(rules policy.Rules) (all []policy.Rules) {
	for _, c := range rules.Clients {
		all = append(all, policy.Rules{Clients: []policy.Client{c}})
	}
	for _, d := range rules.Policies {
		all = append(all, policy.Rules{Policies: []policy.Document{d}})
	}
	if rules.Limits != nil {
		all = append(all, policy.Rules{Limits: rules.Limits})
	}
	return all
}

// Joined are rules of which a part is in each of two.
func Joined(a, b policy.Rules) policy.Rules {
	joined := policy.Rules{
		Clients: slices.Concat(a.Clients, b.Clients), Policies: slices.Concat(a.Policies, b.Policies), Limits: a.Limits,
	}
	if b.Limits != nil {
		joined.Limits = b.Limits
	}
	return joined
}

// DecodeRules reads the bytes of an entry RulesRegistered, and nothing else.
func DecodeRules(line []byte) (rules policy.Rules, err error) {
	err = decodeStrictly(line, &rules)
	if err == nil {
		var again []byte
		if again, err = encode(rules); err == nil && !bytes.Equal(again, line) {
			err = ErrNotCanonical
		}
	}
	if err != nil {
		return policy.Rules{}, fmt.Errorf("rules: %w", err)
	}
	return rules, nil
}
