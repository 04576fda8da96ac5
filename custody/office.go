package custody

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// Token is what the Office asks of the token; *hsm.Token is one. Its methods are as documented there: a making leaves a whole key or nothing,
// and a destruction has looked again.
type Token interface {
	GenerateMaster(ctx context.Context, spec hsm.KeySpec, under hsm.Backup) (hsm.KeySpec, hsm.Wrapped, error)
	DestroyMaster(ctx context.Context, label string, v kcv.Value) error
	AbandonMaster(ctx context.Context, label string, id hsm.ObjectID) error
}

// Options is what NewOffice needs. Store and Node have no default.
type Options struct {
	Store store.Store
	Token Token // nil: acts that need the token are refused
	// Node names this node among those that share the store. What it claimed and did not finish, it goes on with when it starts.
	Node string
	// IssuerLevels is the number of issuer levels above the cards of a key set, which depends on its card profile.
	IssuerLevels func(Definition) (int, error)
	// Check refuses a catalogue that the signer could not work by; nil: none is refused. It is asked before a change is proposed and before
	// it is applied.
	Check func(Catalogue) error
	// ResetPurse says which purse purse.reset is about, and resets it inside the transaction; nil: the act is refused.
	ResetPurse func(PurseChange) (store.PurseKey, func(*store.Purse) error, error)
	// DestroyTransport destroys a transport key's object, and looks again; hsm.ErrKeyNotFound is that there is none. nil: the act is refused.
	DestroyTransport func(ctx context.Context, key Transport) error
	Changed          func(revision uint64) // nil: none; called after a new revision is durable, quickly
	Now              func() time.Time      // nil: the system's clock
	Random           io.Reader             // nil: crypto/rand; ids of changes
}

// Office is the service by which officers change the catalogue. Each of its calls leaves an entry of the record, in the same transaction
// as what it did, the refused ones too; reading leaves none. It keeps no state but which changes this process is at work on.
type Office struct {
	Options
	mu      sync.Mutex
	working map[string]int // calls by change id; see begin
}

// NewOffice validates the options.
func NewOffice(o Options) (*Office, error) {
	if o.Store == nil || o.Node == "" {
		return nil, errors.New("custody: an office needs a store and the node's name")
	}
	if o.Token != nil && o.IssuerLevels == nil {
		return nil, errors.New("custody: an office with a token needs issuer levels")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	return &Office{Options: o, working: map[string]int{}}, nil
}

// Caller is who asks, as its certificate and the policy have it. Client is the officer's name.
type Caller struct {
	Client string
	Role   policy.Role
	Policy string // digest of the policy that granted it
	// Revision is the catalogue's that the policy is of: under another one nothing is decided. 0 is compared with nothing.
	Revision uint64
}

// Catalogue returns the newest catalogue; before the first officers the zero Catalogue.
func (o *Office) Catalogue(ctx context.Context) (Catalogue, error) {
	kept, err := o.Store.Custody(ctx)
	if err != nil {
		return Catalogue{}, err
	}
	return readCatalogue(kept)
}

// readCatalogue reads what the store keeps.
func readCatalogue(kept store.Custody) (Catalogue, error) {
	if kept.Revision == 0 {
		return Catalogue{}, nil
	}
	c, err := DecodeCatalogue(kept.Document)
	if err == nil && c.Revision != kept.Revision {
		err = fmt.Errorf("catalogue: revision %d is kept as %d", c.Revision, kept.Revision)
	}
	return c, err
}

// Request returns one change request with its change, or ErrUnknown.
func (o *Office) Request(ctx context.Context, id string) (store.ChangeRequest, Change, error) {
	request, err := o.Store.ChangeRequest(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		err = ErrUnknown // without the id: what a caller sends is not repeated
	}
	if err != nil {
		return store.ChangeRequest{}, Change{}, err
	}
	change, err := DecodeChange(request.Body)
	return request, change, err
}

// Requests returns the change requests that f chooses, in the order of their proposals.
func (o *Office) Requests(ctx context.Context, f store.RequestFilter) ([]store.ChangeRequest, error) {
	return o.Store.ChangeRequests(ctx, f)
}

// Found registers the first officers, with their quorum and the first rules: see Catalogue.Found. It is recorded as the catalogue's first revision.
func (o *Office) Found(ctx context.Context, first Catalogue) (Catalogue, error) {
	var founded Catalogue
	now := o.Now()
	for i := range first.Officers {
		first.Officers[i].Since = now
	}
	err := o.Store.Commit(ctx, store.Change{Custody: true, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		was, err := readCatalogue(*p.Custody())
		if err != nil {
			return nil, err
		}
		if founded, err = was.Found(first); err != nil {
			return nil, err
		}
		about, err := keep(p, founded)
		if err != nil {
			return nil, err
		}
		return Registered(founded, about.Catalogue, now)
	}})
	return founded, err
}

// keep replaces the catalogue, and answers what an entry says of it.
func keep(p *store.Purse, next Catalogue) (about audit.Change, err error) {
	document, err := next.Encode()
	if err != nil {
		return about, err
	}
	*p.Custody() = store.Custody{Revision: next.Revision, Document: document}
	return audit.Change{Revision: next.Revision, Catalogue: digest(document)}, nil
}

// newID is 32 hex digits at random.
func (o *Office) newID() (string, error) {
	var id [16]byte
	if _, err := io.ReadFull(o.Random, id[:]); err != nil {
		return "", fmt.Errorf("change id: %w", err)
	}
	return hex.EncodeToString(id[:]), nil
}

// Proposal is what an officer asks for: a Change with its act, its reason and what the act takes; the rest is the office's.
type Proposal struct {
	Change
	Life time.Duration // until it expires; 0: DefaultLife
}

// Propose records a change request, and answers it with the bytes that officers sign. What is done at once (policy.Act.AtOnce) is applied with it, in
// the same transaction.
func (o *Office) Propose(ctx context.Context, by Caller, asked Proposal) (store.ChangeRequest, error) {
	id, err := o.newID()
	if err != nil {
		return store.ChangeRequest{}, err
	}
	now := o.Now()
	change := asked.Change
	change.ID, change.Author, change.Proposed = id, by.Client, wholeSecond(now)
	change.Expires = change.Proposed.Add(cmp.Or(asked.Life, DefaultLife))
	return o.decide(ctx, by, id, store.PurseKey{}, func(d *desk) error {
		if _, err := d.officer(); err != nil {
			return err
		}
		d.change = change
		proposed, err := d.catalogue.Propose(change, now)
		if err != nil {
			return err
		}
		d.change = proposed
		if err := o.canEver(d.catalogue, proposed, now); err != nil {
			return err
		}
		body, err := proposed.Encode()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		d.request = &store.ChangeRequest{
			ID: id, Body: body, Act: string(proposed.Act), Author: by.Client, ExpiresAt: proposed.Expires, AuditIndex: d.index,
			State: store.RequestOpen,
		}
		d.p.AddRequest(d.request)
		d.record(audit.ChangeProposed, string(store.RequestOpen), proposed.Reason, audit.Change{Bytes: string(body)})
		if proposed.Act.AtOnce() {
			return o.apply(d, Made{}, "at once, by its author alone", nil)
		}
		return nil
	})
}

// canEver refuses a change that this office could not carry out, or whose catalogue the signer could not work by, before anybody signs it.
func (o *Office) canEver(c Catalogue, change Change, now time.Time) error {
	switch {
	case change.Act == policy.ResetPurse && o.ResetPurse == nil,
		change.Act == policy.DestroyTransport && o.DestroyTransport == nil,
		NeedsToken(change.Act) && change.Act != policy.DestroyTransport && o.Token == nil:
		return invalid("%s: this service cannot do it", change.Act)
	case change.Act == policy.ResetPurse:
		if _, _, err := o.ResetPurse(*change.Purse); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	var made Made
	switch {
	case change.makesKeys():
		made.Keys = c.sketch(change)
	case NeedsCeremony(change.Act):
		return nil
	}
	next, err := c.Apply(change, made, now)
	if err != nil {
		return err
	}
	return o.check(next)
}

func (o *Office) check(next Catalogue) error {
	if o.Check == nil {
		return nil
	}
	if err := o.Check(next); err != nil {
		return fmt.Errorf("%w: the signer could not work by it: %w", ErrInvalid, err)
	}
	return nil
}

// sketch are keys as a change would make them, with check values that no key has.
func (c Catalogue) sketch(change Change) (keys []MadeKey) {
	set := c.KeySet(change.Keys.Set)
	free := 0
	for _, k := range change.Keys.Keys {
		label := Label(set.Name, k.Name)
		m := MadeKey{Set: set.Name, Name: k.Name, Label: label, ID: ObjectID(change.ID, label)}
		m.KCV = CheckValue{Value: k.KCV, Algorithm: set.Algorithm.String()}
		for k.KCV == "" {
			m.KCV.Value = fmt.Sprintf("%06X", free)
			free++
			if c.newMaster(set, m.KCV) == nil {
				break
			}
		}
		if !change.Keys.WithoutBackup {
			m.Wrapped = "00"
		}
		keys = append(keys, m)
	}
	return keys
}
