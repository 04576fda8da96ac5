package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// proposalFlags are what every proposal about keys takes.
type proposalFlags struct {
	officerFlags
	Set    string        `help:"The key set." required:""`
	Reason string        `help:"Why, in your words." required:""`
	Life   time.Duration `help:"How long until the proposal expires; 72h when left out." placeholder:"24h"`
}

// ask proposes an act on keys.
func (f proposalFlags) ask(ctx context.Context, act policy.Act, keys custody.KeysChange) error {
	slices.SortFunc(keys.Keys, func(a, b custody.KeyChange) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Version, b.Version))
	})
	draft, err := json.Marshal(map[string]any{"act": act, "reason": f.Reason, "keys": keys})
	if err != nil {
		return err
	}
	return f.propose(ctx, draft, f.Life)
}

// set asks for the key set as it is now.
func (f proposalFlags) set(ctx context.Context) (*v1.KeySet, error) {
	sets, err := listKeySets(ctx, f.clientFlags, f.Set)
	if err != nil {
		return nil, err
	}
	return sets[0], nil
}

// keyRotateCmd proposes key.create with the next versions.
type keyRotateCmd struct {
	proposalFlags
	Kinds         []string  `help:"Kinds of the keys, such as load,tac." required:""`
	ActivateAt    time.Time `help:"When the new versions become active by themselves, on all nodes. Left out, they wait for key activate." placeholder:"2027-01-01T00:00:00Z"`
	Due           time.Time `help:"When they are to be rotated in their turn." placeholder:"2029-01-01T00:00:00Z"`
	Boundary      string    `help:"TOKEN, CARD or PROCESS; left out, as the newest version has it."`
	WithoutBackup bool      `help:"No copy is kept; when the token is lost, the keys are lost."`
}

// Run proposes the next version of each kind. The old versions stay as they are: cards that answer their KVER go on working until
// officers deactivate them.
func (c *keyRotateCmd) Run(ctx context.Context) error {
	set, err := c.set(ctx)
	if err != nil {
		return err
	}
	keys := custody.KeysChange{Set: c.Set, ActivateAt: c.ActivateAt.UTC(), Due: c.Due.UTC(), WithoutBackup: c.WithoutBackup}
	for _, name := range c.Kinds {
		kind, err := keyderive.ParseKind(name)
		if err != nil {
			return fmt.Errorf("--kinds: %w", err)
		}
		next, err := c.next(set, kind)
		if err != nil {
			return err
		}
		keys.Keys = append(keys.Keys, next)
	}
	return c.ask(ctx, policy.CreateKey, keys)
}

// next is the version after the highest of a kind, whatever its state.
func (c *keyRotateCmd) next(set *v1.KeySet, kind keyderive.Kind) (next custody.KeyChange, err error) {
	next.Name = custody.Name{Kind: kind, Version: 1}
	boundary := c.Boundary
	for _, k := range set.Keys {
		if k.Key.Kind == kind.String() && int(k.Key.Version) >= next.Version {
			next.Version = int(k.Key.Version) + 1
			boundary = cmp.Or(c.Boundary, strings.TrimPrefix(k.Boundary.String(), "BOUNDARY_"))
		}
	}
	if next.Version == 1 {
		return next, fmt.Errorf("key set %s has no %v key to rotate; propose the first by: pursekeeper change propose key.create", c.Set, kind)
	}
	next.Boundary, err = keyderive.ParseBoundary(boundary)
	return next, err
}

// keyActFlags are what an act on keys that are there takes.
type keyActFlags struct {
	proposalFlags
	Keys []string `help:"The keys, KIND/VERSION each, such as load/2,tac/2." required:"" placeholder:"KIND/VERSION"`
}

// act proposes an act on the keys, with the check values that the service shows now: no other key is meant.
func (f keyActFlags) act(ctx context.Context, act policy.Act, at time.Time) error {
	set, err := f.set(ctx)
	if err != nil {
		return err
	}
	keys := custody.KeysChange{Set: f.Set, ActivateAt: at.UTC()}
	for _, name := range f.Keys {
		i := slices.IndexFunc(set.Keys, func(k *v1.KeyVersion) bool {
			return name == k.Key.Kind+"/"+strconv.Itoa(int(k.Key.Version))
		})
		if i < 0 {
			return fmt.Errorf("--keys: key set %s has no key %q; expected KIND/VERSION", f.Set, name)
		}
		key := set.Keys[i].Key
		kind, err := keyderive.ParseKind(key.Kind)
		if err != nil {
			return err
		}
		keys.Keys = append(keys.Keys, custody.KeyChange{Name: custody.Name{Kind: kind, Version: int(key.Version)}, KCV: key.Kcv})
	}
	return f.ask(ctx, act, keys)
}

type keyActivateCmd struct {
	keyActFlags
	At time.Time `help:"When they become active by themselves; left out, when the change is approved." placeholder:"2027-01-01T00:00:00Z"`
}

// Run proposes key.activate.
func (c *keyActivateCmd) Run(ctx context.Context) error { return c.act(ctx, policy.ActivateKey, c.At) }

type keyDeactivateCmd struct{ keyActFlags }

// Run proposes key.deactivate.
func (c *keyDeactivateCmd) Run(ctx context.Context) error {
	return c.act(ctx, policy.DeactivateKey, time.Time{})
}

type keySuspendCmd struct{ keyActFlags }

// Run proposes key.suspend.
func (c *keySuspendCmd) Run(ctx context.Context) error {
	return c.act(ctx, policy.SuspendKey, time.Time{})
}

type keyResumeCmd struct{ keyActFlags }

// Run proposes key.resume.
func (c *keyResumeCmd) Run(ctx context.Context) error {
	return c.act(ctx, policy.ResumeKey, time.Time{})
}

type keyCompromiseCmd struct{ keyActFlags }

// Run proposes key.compromise.
func (c *keyCompromiseCmd) Run(ctx context.Context) error {
	return c.act(ctx, policy.CompromiseKey, time.Time{})
}

type keyDestroyCmd struct {
	keyActFlags
	Forever bool `help:"You know that what these keys signed can be verified no more." required:""`
}

// Run proposes key.destroy.
func (c *keyDestroyCmd) Run(ctx context.Context) error {
	if !c.Forever {
		return errors.New("--forever: what these keys signed can be verified no more; say that you know")
	}
	return c.act(ctx, policy.DestroyKey, time.Time{})
}
