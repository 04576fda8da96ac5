package signer

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// Exposure is what came of the try to take a card key out of a master (DESIGN, §2). The zero Exposure is of a key whose boundary
// lets card keys out anyway.
type Exposure struct {
	Finding string // NOT_EXTRACTABLE, EXTRACTABLE_BY_PIN_HOLDER or NOT_TRIED
	Detail  string // the same in words
}

// ListedKeySet is a key set as its officers see it.
type ListedKeySet struct {
	Name      string
	Algorithm string
	Profile   string
	TimeZone  string
	Keys      []ListedKey // in the order of EPURSE.md §1, and of their numbers
}

// ListedKey is one version of a key.
type ListedKey struct {
	Key      KeyUsed
	State    custody.KeyState
	Exposure Exposure
	// Of keys that officers decide on; zero: not set.
	ActivateAt, Due, Created time.Time
	Origin                   string
}

// ListKeySets shows the key sets that the caller may see, in the order of their names; those that it may not are not named. A caller
// that may see none is denied.
func (s *Signer) ListKeySets(ctx context.Context, caller policy.Caller) ([]ListedKeySet, error) {
	return withKeys(ctx, s, func(s view) ([]ListedKeySet, error) {
		grants, sets, err := s.permitSome(ctx, caller, policy.ListKeySets)
		if err != nil {
			return nil, err
		}
		return s.listKeySets(ctx, caller, grants, sets)
	})
}

// EachKey calls yield with every key and its state on this node, for the node's own metrics: nobody asks, and nothing is recorded.
func (s *Signer) EachKey(yield func(audit.Key, custody.KeyState)) {
	v := s.view()
	for _, name := range slices.Sorted(maps.Keys(v.keys.sets)) {
		for _, key := range v.keys.sets[name].listed().Keys {
			yield(key.Key.Key, key.State)
		}
	}
}

// permitSome asks the policy for every key set, and returns those that the caller may use, in the order of their names, with the grant for
// each. Where there is none, the denial is recorded and returned.
func (s view) permitSome(ctx context.Context, caller policy.Caller, op policy.Operation) (grants []policy.Grant, sets []*keySet, err error) {
	var denied error
	for _, name := range slices.Sorted(maps.Keys(s.keys.sets)) {
		asked := s.context(s.keys.sets[name], policy.Context{})
		grant, err := s.keys.policy.Decide(policy.Request{Caller: caller, Operation: op, KeySet: name, Context: asked})
		if err != nil {
			denied = err
			continue
		}
		grants, sets = append(grants, grant), append(sets, s.keys.sets[name])
	}
	if len(sets) > 0 {
		return grants, sets, nil
	}
	if denied == nil { // a signer without key sets has none to decide on
		denied = &policy.Denied{Reason: "this signer has no key set"}
	}
	return nil, nil, s.denial(ctx, caller, op, audit.Entry{}, denied)
}

// outcomeListed is how a look at the key sets ends; its entry names them.
const outcomeListed = "LISTED"

// listKeySets is the operation behind the permissions: one for each set.
func (s view) listKeySets(ctx context.Context, caller policy.Caller, grants []policy.Grant, sets []*keySet) ([]ListedKeySet, error) {
	listed, names := make([]ListedKeySet, len(sets)), make([]string, len(sets))
	for i, set := range sets {
		if len(grants) != len(sets) || !grants[i].Allows(policy.ListKeySets, set.Name) {
			return nil, errNoGrant
		}
		listed[i], names[i] = set.listed(), set.Name
	}
	entry := s.entry(caller, grants[0], policy.ListKeySets, audit.Entry{Outcome: outcomeListed, Detail: strings.Join(names, " ")})
	if err := s.record(ctx, entry); err != nil {
		return nil, err
	}
	return listed, nil
}

func (s *keySet) listed() ListedKeySet {
	l := ListedKeySet{Name: s.Name, Algorithm: s.Algorithm.String(), Profile: s.Profile.Name(), TimeZone: s.Location.String()}
	for _, kind := range keyderive.Kinds() {
		for _, number := range slices.Sorted(maps.Keys(s.versions[kind])) {
			v := s.versions[kind][number]
			key := ListedKey{
				Key: s.used(v), State: v.State, ActivateAt: v.ActivateAt, Due: v.Due, Created: v.Created, Origin: v.Origin,
			}
			if v.Exposure != nil {
				key.Exposure = v.Exposure()
			}
			l.Keys = append(l.Keys, key)
		}
	}
	return l
}
