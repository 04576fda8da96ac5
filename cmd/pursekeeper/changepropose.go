package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// changeProposeCmd proposes what its flags say, or what a file says; docs/officers.md has one of each act.
type changeProposeCmd struct {
	officerFlags
	Act    string        `arg:"" optional:"" help:"What is to be done, such as key.create."`
	File   string        `help:"YAML file with the change: act, reason, and what the act takes. It takes the place of the flags below." type:"existingfile"`
	Reason string        `help:"Why, in your words."`
	Life   time.Duration `help:"How long until it expires; 72h when left out." placeholder:"24h"`

	Set           string            `help:"Of keys: their key set."`
	Kinds         []string          `help:"Of keys: their kinds, such as load,tac."`
	Version       int               `help:"Of keys: their version."`
	Boundary      string            `help:"Of key.create: TOKEN, CARD or PROCESS." default:"TOKEN"`
	BoundaryOf    map[string]string `help:"Of key.create: another boundary for one kind, such as tac=CARD; repeated." placeholder:"KIND=BOUNDARY"`
	ActivateAt    time.Time         `help:"Of key.create and key.activate: when they become active by themselves." placeholder:"2027-01-01T00:00:00Z"`
	Due           time.Time         `help:"Of key.create: when they are to be replaced." placeholder:"2029-01-01T00:00:00Z"`
	WithoutBackup bool              `help:"Of key.create: no copy is kept; when the token is lost, the keys are lost."`

	Officer string         `help:"Of officer.add and officer.replace: NAME=PUBKEYFILE; of officer.remove: NAME." placeholder:"NAME"`
	Quorum  int            `help:"Of quorum.set: how many officers other than its author must approve a change."`
	For     map[string]int `help:"Of quorum.set: another number for one act, ACT=N; repeated." placeholder:"ACT=N"`

	Algorithm string   `help:"Of keyset.create: 3DES or SM4."`
	Profile   string   `help:"Of keyset.create: the card profile."`
	Issuer    []string `help:"Of keyset.create: none, card, or the factors, root first; left out: as the profile says."`
	TimeZone  string   `help:"Of keyset.create." default:"Asia/Shanghai"`
	Failures  int      `help:"Of keyset.create: wrong MAC1s that lock a card." default:"10"`

	Client   string   `help:"Of the acts on clients: its name." placeholder:"NAME"`
	Identity string   `help:"Of client.add and client.replace: the exact URI or DNS name in its certificate." placeholder:"URI"`
	Role     string   `help:"Of client.add and client.replace: platform, reader, officer, auditor, personaliser or operator."`
	KeySets  []string `help:"Of client.add and client.replace: the key sets that policies let it use as its own." placeholder:"SET,…"`
	Dir      string   `help:"Of policy.set: folder with the documents, *.cedar, and limits.yaml; what is not in it goes." type:"existingdir"`
}

// Run proposes, and prints what the other officers are asked.
func (c *changeProposeCmd) Run(ctx context.Context) error {
	draft, err := c.draft(ctx)
	if err != nil {
		return err
	}
	return c.propose(ctx, draft, c.Life)
}

// propose proposes a draft, and prints what the other officers are asked; life 0 is the office's own.
func (f officerFlags) propose(ctx context.Context, draft []byte, until time.Duration) error {
	keys, err := f.keys()
	if err != nil {
		return err
	}
	life := ""
	if until != 0 {
		life = until.String()
	}
	answer, err := keys.ProposeChange(ctx, &v1.ProposeChangeRequest{Draft: string(draft), Life: life})
	if err = refusal(answer, err); err != nil {
		return err
	}
	change, err := custody.DecodeChange([]byte(answer.Change.Bytes))
	if err != nil {
		return err
	}
	fmt.Print(change.Words())
	if err := f.showDifferences(ctx, change); err != nil {
		return err
	}
	fmt.Println(standing(answer.Change))
	return nil
}

// draft is the change as JSON.
func (c *changeProposeCmd) draft(ctx context.Context) ([]byte, error) {
	if c.File != "" {
		if c.Act != "" || c.Reason != "" {
			return nil, errors.New("--file says all of it: give no act and no reason beside it")
		}
		text, err := os.ReadFile(c.File)
		if err != nil {
			return nil, err
		}
		draft, err := yaml.YAMLToJSON(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.File, err)
		}
		if _, err := custody.DecodeDraft(draft); err != nil {
			return nil, fmt.Errorf("%s: %w", c.File, err)
		}
		return draft, nil
	}
	change := map[string]any{"act": c.Act, "reason": c.Reason}
	member, value, err := c.member(ctx)
	if err != nil {
		return nil, err
	}
	change[member] = value
	return draftOf(change)
}

// draftOf is a draft as JSON, in which <, > and & stand for themselves: a policy is full of them, and a draft has a bound.
func draftOf(change map[string]any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(change)
	return text.Bytes(), err
}

func (c *changeProposeCmd) member(ctx context.Context) (name string, value any, err error) {
	switch act := policy.Act(c.Act); act {
	case policy.AddOfficer, policy.RemoveOfficer, policy.ReplaceOfficer:
		value, err = c.officer(act)
		return "officer", value, err
	case policy.SetQuorum:
		q := policy.Quorum{Default: c.Quorum}
		for act, n := range c.For {
			if q.Acts == nil {
				q.Acts = map[policy.Act]int{}
			}
			q.Acts[policy.Act(act)] = n
		}
		return "quorum", q, nil
	case policy.CreateKeySet:
		value, err = c.keySet()
		return "keySet", value, err
	case policy.CreateKey, policy.ActivateKey, policy.SuspendKey, policy.ResumeKey, policy.DeactivateKey, policy.CompromiseKey, policy.DestroyKey:
		value, err = c.keysOf(ctx, act)
		return "keys", value, err
	case policy.AddClient, policy.ReplaceClient, policy.RemoveClient, policy.SuspendClient, policy.ResumeClient:
		return "client", c.clientOf(act), nil
	case policy.SetPolicy:
		value, err = c.policyOf(ctx)
		return "policy", value, err
	}
	return "", nil, fmt.Errorf("act %q: write it in a file, and give --file", c.Act)
}

func (c *changeProposeCmd) officer(act policy.Act) (custody.OfficerChange, error) {
	name, file, _ := strings.Cut(c.Officer, "=")
	o := custody.OfficerChange{Name: name}
	if act == policy.RemoveOfficer {
		return o, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return o, fmt.Errorf("--officer NAME=PUBKEYFILE: %w", err)
	}
	o.Key, err = custody.ReadPublicKey(text)
	return o, err
}

func (c *changeProposeCmd) keySet() (d custody.Definition, err error) {
	d = custody.Definition{Name: c.Set, Profile: c.Profile, TimeZone: c.TimeZone, MAC1FailureLimit: c.Failures}
	if d.Algorithm, err = suite.Parse(c.Algorithm); err != nil {
		return d, fmt.Errorf("--algorithm: %w", err)
	}
	switch {
	case len(c.Issuer) == 0:
	case len(c.Issuer) == 1 && (c.Issuer[0] == "none" || c.Issuer[0] == "card"):
		d.Issuer = c.Issuer[0]
	default:
		d.Issuer, d.Factors = "fixed", c.Issuer
	}
	return d, nil
}

// keysOf names the keys; of those that are there it says the check values that the signer shows, so that no other key is meant.
func (c *changeProposeCmd) keysOf(ctx context.Context, act policy.Act) (keys custody.KeysChange, err error) {
	keys = custody.KeysChange{Set: c.Set, ActivateAt: c.ActivateAt.UTC(), Due: c.Due.UTC(), WithoutBackup: c.WithoutBackup}
	values := map[string]string{}
	if act != policy.CreateKey {
		if values, err = c.checkValues(ctx); err != nil {
			return keys, err
		}
	}
	for _, name := range c.Kinds {
		kind, err := keyderive.ParseKind(name)
		if err != nil {
			return keys, fmt.Errorf("--kinds: %w", err)
		}
		k := custody.KeyChange{Name: custody.Name{Kind: kind, Version: c.Version}}
		if act == policy.CreateKey {
			if k.Boundary, err = keyderive.ParseBoundary(cmp.Or(c.BoundaryOf[name], c.Boundary)); err != nil {
				return keys, fmt.Errorf("--boundary: %w", err)
			}
		} else if k.KCV = values[name+"/"+strconv.Itoa(c.Version)]; k.KCV == "" {
			return keys, fmt.Errorf("key set %s has no %s key of version %d that you may see", c.Set, name, c.Version)
		}
		keys.Keys = append(keys.Keys, k)
	}
	slices.SortFunc(keys.Keys, func(a, b custody.KeyChange) int { return cmp.Compare(a.Kind, b.Kind) })
	return keys, nil
}

// checkValues are those of the set's keys, by KIND/VERSION.
func (c *changeProposeCmd) checkValues(ctx context.Context) (map[string]string, error) {
	client, err := c.keys()
	if err != nil {
		return nil, err
	}
	sets, err := client.ListKeySets(ctx, &v1.ListKeySetsRequest{})
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, set := range sets.KeySets {
		if set.Name != c.Set {
			continue
		}
		for _, k := range set.Keys {
			values[fmt.Sprintf("%s/%d", k.Key.Kind, k.Key.Version)] = k.Key.Kcv
		}
	}
	return values, nil
}
