package signer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// snapshot is the policy and the key sets as they stood at one revision of the catalogue. It is never changed: officers' changes make another.
type snapshot struct {
	// revision is the catalogue's; 0 is of key sets that no officers decide on, and is compared with nothing.
	revision uint64
	policy   *policy.Policy
	sets     map[string]*keySet
	// until is when the next pre-active key becomes active by itself; zero: none will.
	until time.Time
}

func newSnapshot(revision uint64, rules *policy.Policy, sets []KeySet, now time.Time) (*snapshot, error) {
	if rules == nil {
		return nil, errors.New("signer: a policy is needed")
	}
	s := &snapshot{revision: revision, policy: rules, sets: make(map[string]*keySet, len(sets))}
	for _, set := range sets {
		if s.sets[set.Name] != nil {
			return nil, fmt.Errorf("key set %s: is there twice", set.Name)
		}
		valid, err := newKeySet(set)
		if err != nil {
			return nil, err
		}
		s.sets[set.Name] = valid
	}
	return s.at(now), nil
}

// at is the snapshot with the keys active whose time has come.
func (s *snapshot) at(now time.Time) *snapshot {
	next := &snapshot{revision: s.revision, policy: s.policy, sets: make(map[string]*keySet, len(s.sets))}
	for name, set := range s.sets {
		then, until := set.at(now)
		next.sets[name] = then
		if next.until.IsZero() || !until.IsZero() && until.Before(next.until) {
			next.until = until
		}
	}
	return next
}

// view is the signer at one snapshot of its keys: all that an operation does, it does by one, from its first line to its commit.
type view struct {
	*service
	keys *snapshot
}

// view takes the newest snapshot, as this node's clock has it.
func (s *Signer) view() view {
	for {
		keys := s.current.Load()
		now := s.now()
		if keys.until.IsZero() || now.Before(keys.until) {
			return view{s.service, keys}
		}
		s.current.CompareAndSwap(keys, keys.at(now)) // or officers' changes came between
	}
}

// looking is the view of an operation that only looks at what is recorded, and may record nothing itself: by the catalogue as it is when it begins, so that who may not look any
// more does not. What it answers rests on no key's state, so that a change of officers meanwhile does not undo it.
func (s *Signer) looking(ctx context.Context) (view, error) {
	if err := s.refresh(ctx); err != nil {
		return view{}, err
	}
	v := s.view()
	return view{v.service, &snapshot{policy: v.keys.policy, sets: v.keys.sets}}, nil
}

// Use makes the policy and the key sets of a revision those that operations from now on go by. An older revision than the one in use is left alone:
// of two that follow the catalogue at once, the newer stays.
func (s *Signer) Use(revision uint64, rules *policy.Policy, sets []KeySet) error {
	next, err := newSnapshot(revision, rules, sets, s.now())
	if err != nil {
		return err
	}
	for {
		keys := s.current.Load()
		if revision < keys.revision {
			return nil
		}
		if s.current.CompareAndSwap(keys, next) {
			return nil
		}
	}
}

// Revision is that of the key sets in use; 0 when no officers decide on them.
func (s *Signer) Revision() uint64 { return s.current.Load().revision }

// mostRevisions bounds how often one operation is done again because officers changed the catalogue meanwhile.
const mostRevisions = 8

// withKeys does an operation by one snapshot. When the store says that officers changed the catalogue before the operation committed,
// nothing of it happened: the signer takes the new catalogue, and does it again from its first line. So nothing leaves that was made
// with a key whose state was another when it was recorded.
func withKeys[T any](ctx context.Context, s *Signer, operate func(view) (T, error)) (T, error) {
	var none T
	for range mostRevisions {
		v := s.view()
		answer, err := operate(v)
		if !errors.Is(err, store.ErrRevision) {
			return answer, err
		}
		if err := s.follow(ctx, v.keys.revision); err != nil {
			return none, err
		}
	}
	return none, fmt.Errorf("%w: officers changed the keys again and again while the request ran", store.ErrUnavailable)
}

// follow takes the catalogue that is newer than the revision.
func (s *Signer) follow(ctx context.Context, outdated uint64) error {
	if s.Revision() > outdated {
		return nil
	}
	if err := s.reload(ctx); err != nil {
		return fmt.Errorf("%w: the keys were changed, and the change could not be read: %w", store.ErrUnavailable, err)
	}
	if s.Revision() <= outdated {
		return fmt.Errorf("%w: the keys were changed, and the change is not in use yet", store.ErrUnavailable)
	}
	return nil
}

// commit is the only way of an operation to the store: under the revision that it went by.
func (s view) commit(ctx context.Context, c store.Change) error {
	c.Revision = s.keys.revision
	return s.store.Commit(ctx, c)
}
