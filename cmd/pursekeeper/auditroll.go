package main

import (
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/policy"
)

// roll is who is an officer, by which quorum they decide, and what they approved, as the record tells it from its beginning. It takes
// nothing from the entries that the signer concluded, such as how many approvals it counted.
type roll struct {
	officers map[string]string // SSH keys by name
	quorum   policy.Quorum
	proposed map[string]custody.Change
	// given are the keys by which officers approved, by change and officer. An approval is struck when its officer or its key goes.
	given map[string]map[string]string
	begun map[string]bool // changes whose quorum was there when work in the token began
}

func newRoll() *roll {
	return &roll{
		officers: map[string]string{}, proposed: map[string]custody.Change{}, given: map[string]map[string]string{}, begun: map[string]bool{},
	}
}

// isOfficer refuses an approval that is not of an officer with that key, or of its own change.
func (r *roll) isOfficer(a audit.Change, change custody.Change) error {
	switch {
	case change.ID != a.ID || change.Author == a.Officer:
		return fmt.Errorf("%s approved change %s of its own, or another", printable(a.Officer), printable(a.ID))
	case a.OfficerKey == "" || r.officers[a.Officer] != a.OfficerKey:
		return fmt.Errorf("%s was no officer with that key", printable(a.Officer))
	}
	return nil
}

// approve takes an approval that was verified.
func (r *roll) approve(a audit.Change) error {
	change, there := r.proposed[a.ID]
	if !there {
		return fmt.Errorf("change %s was approved and is not proposed, or over", printable(a.ID))
	}
	if line, err := change.Encode(); err != nil || string(line) != a.Bytes {
		return fmt.Errorf("change %s was proposed as other bytes than were approved", change.ID)
	}
	if r.given[a.ID] == nil {
		r.given[a.ID] = map[string]string{}
	}
	r.given[a.ID][a.Officer] = a.OfficerKey
	if custody.NeedsToken(change.Act) && r.enough(change) == nil {
		r.begun[a.ID] = true // an officer who goes while the token works takes nothing back
	}
	return nil
}

// enough refuses a change of no officer's, and one that has too few approvals that hold now.
func (r *roll) enough(change custody.Change) error {
	if r.officers[change.Author] == "" {
		return fmt.Errorf("change %s, %s: its author %s is no officer", change.ID, change.Act, change.Author)
	}
	need, err := custody.Catalogue{Quorum: r.quorum}.QuorumFor(change)
	if err != nil {
		return err
	}
	if n := len(r.given[change.ID]); n < need {
		return fmt.Errorf("change %s, %s: applied with %d approvals of %d", change.ID, change.Act, n, need)
	}
	return nil
}

// follow takes an entry that is no approval, and answers what is wrong with a change that was applied.
func (r *roll) follow(e audit.Entry) error {
	switch e.Event {
	case audit.OfficersRegistered:
		first, err := custody.DecodeCatalogue([]byte(e.Change.Bytes))
		if err != nil {
			return err
		}
		if len(r.officers) > 0 {
			return fmt.Errorf("first officers were registered where there are officers")
		}
		for _, o := range first.Officers {
			r.officers[o.Name] = o.Key
		}
		r.quorum = first.Quorum
	case audit.ChangeProposed:
		change, err := custody.DecodeChange([]byte(e.Change.Bytes))
		if err != nil {
			return err
		}
		if _, there := r.proposed[change.ID]; there {
			return fmt.Errorf("change %s was proposed twice", change.ID)
		}
		r.proposed[change.ID] = change
	case audit.ChangeApplied:
		return r.apply(e.Change.ID)
	}
	return nil
}

// apply does what an applied change does to the roll, whether it was right or not: what follows is judged by what is in force.
func (r *roll) apply(id string) error {
	change, there := r.proposed[id]
	if !there {
		return fmt.Errorf("change %s was applied and never proposed, or twice", printable(id))
	}
	var err error
	if !r.begun[id] {
		err = r.enough(change)
	}
	delete(r.proposed, id)
	delete(r.given, id)
	delete(r.begun, id)
	switch {
	case change.Quorum != nil:
		r.quorum = *change.Quorum
	case change.Officer != nil:
		delete(r.officers, change.Officer.Name)
		for _, by := range r.given {
			delete(by, change.Officer.Name)
		}
		if change.Officer.Key != "" {
			r.officers[change.Officer.Name] = change.Officer.Key
		}
	}
	return err
}
