// Package recovery puts a backup into an empty token and an empty store: the backup key, every master that has a copy, and then the catalogue,
// with an entry of the record, in one transaction. The catalogue comes last, so that a process that is killed before has left keys in
// a token and nothing that uses them; the next Run makes them anew.
package recovery

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/store"
)

// What a restore is refused for. Each names what is there.
var (
	ErrTokenNotEmpty = errors.New("the token is not empty")
	ErrStoreNotEmpty = errors.New("the store is not empty")
	ErrCheckValue    = errors.New("the backup key that the shares make is not the catalogue's")
	ErrCopy          = errors.New("a key's copy in the backup is not usable")
)

// Token is what a restore needs of a token: *hsm.Token.
type Token interface {
	Inventory(ctx context.Context) (hsm.Inventory, error)
	ImportBackupKey(ctx context.Context, name string, key secret.Bytes) (kcv.Value, error)
	RestoreMaster(ctx context.Context, spec hsm.KeySpec, backupKey secret.Bytes, wrapped hsm.Wrapped) error
	AbandonMaster(ctx context.Context, label string, id hsm.ObjectID) error
	AbandonBackupKey(ctx context.Context, name string) error
}

// Store is what a restore needs of a store: *store.Database.
type Store interface {
	Custody(ctx context.Context) (store.Custody, error)
	Sealing(ctx context.Context) (sealed audit.Sealed, entries uint64, err error)
	Commit(ctx context.Context, c store.Change) error
}

// Config is one restore.
type Config struct {
	Token Token
	Store Store
	File  *escrow.File
	Seed  secret.Bytes // the caller's, who wipes it
	// Spec is how the token finds and checks a key of a set.
	Spec func(set custody.Definition, key custody.Key) (hsm.KeySpec, error)
	// ID names this restore in the record and in the keys' Changed, as a change's id would: 32 hex digits, random.
	ID   string
	Now  time.Time
	Tell func(progress string) // may be nil
}

// Result is what was restored.
type Result struct {
	Catalogue  custody.Catalogue
	Content    escrow.Content
	Keys       []string // labels
	Lost       []string // without a copy
	AuditIndex uint64
}

// work is a restore at work.
type work struct {
	Config
	content escrow.Content
	backup  custody.Backup
	name    string // of the backup key
	masters []master
	present map[string]bool // labels in the token, of an earlier run
	made    []hsm.KeySpec   // by this run
	key     bool            // this run made the backup key
}

type master struct {
	spec    hsm.KeySpec
	wrapped hsm.Wrapped
}

// Run restores all or, when it returns an error, nothing: what this run made in the token is destroyed again. What an earlier run left that
// was killed is taken up when it is the backup's, key for key, and ErrTokenNotEmpty otherwise.
func Run(ctx context.Context, c Config) (Result, error) {
	w := &work{Config: c, present: map[string]bool{}}
	if w.Tell == nil {
		w.Tell = func(string) {}
	}
	content, catalogue, err := c.File.Open(c.Seed)
	if err != nil {
		return Result{}, err
	}
	w.content, w.backup = content, *catalogue.Backup
	if err := w.prepare(catalogue); err != nil {
		return Result{}, err
	}
	surviving, err := w.storeIsFit(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := w.tokenIsFit(ctx); err != nil {
		return Result{}, err
	}
	result := Result{Content: content}
	if err = w.fillToken(ctx); err == nil {
		result.Catalogue, result.Lost = catalogue.Restored(c.ID)
		result.AuditIndex, err = w.commit(ctx, result, surviving)
	}
	if err != nil {
		return Result{}, errors.Join(err, w.undo(ctx))
	}
	for _, m := range w.masters {
		result.Keys = append(result.Keys, m.spec.Label)
	}
	return result, nil
}

// prepare reads everything that is to be restored, before anything is touched.
func (w *work) prepare(catalogue custody.Catalogue) error {
	want, err := kcv.Parse(w.backup.KCV.Value)
	if err != nil {
		return err
	}
	key, err := escrow.WrappingKey(w.Seed)
	if err != nil {
		return err
	}
	defer key.Wipe()
	got, err := hsm.BackupCheckValue(key)
	switch {
	case err != nil:
		return err
	case got != want:
		return fmt.Errorf("%w: %v, expected %v", ErrCheckValue, got, want)
	}
	w.name = hsm.BackupKeyName(w.backup.Label)
	for _, set := range catalogue.KeySets {
		for _, k := range set.Keys {
			if k.State == custody.Destroyed || k.Wrapped == "" {
				continue
			}
			m, err := w.master(set.Definition, k, want)
			if err != nil {
				return fmt.Errorf("key %s: %w", k.Label, err)
			}
			w.masters = append(w.masters, m)
		}
	}
	return nil
}

func (w *work) master(set custody.Definition, k custody.Key, under kcv.Value) (m master, err error) {
	if m.spec, err = w.Spec(set, k); err != nil {
		return m, err
	}
	if m.wrapped, err = hex.DecodeString(k.Wrapped); err != nil {
		return m, fmt.Errorf("%w: not hex digits", ErrCopy)
	}
	made, err := m.wrapped.BackupKCV()
	switch {
	case err != nil:
		return m, fmt.Errorf("%w: %w", ErrCopy, err)
	case made != under:
		return m, fmt.Errorf("%w: it is under another backup key, %v", ErrCopy, made)
	}
	return m, nil
}

// storeIsFit accepts a store with nothing in it, or the very store that the backup was made of: its token alone was lost.
func (w *work) storeIsFit(ctx context.Context) (surviving bool, err error) {
	had, err := w.Store.Custody(ctx)
	if err != nil {
		return false, err
	}
	if had.Revision != 0 {
		if string(had.Document) != w.content.Catalogue {
			return false, fmt.Errorf("%w: it has a catalogue of revision %d, and not the one of the backup, revision %d", ErrStoreNotEmpty, had.Revision, w.File.Revision)
		}
		return true, nil
	}
	_, entries, err := w.Store.Sealing(ctx)
	if err == nil && entries > 0 {
		err = fmt.Errorf("%w: its record has %d entries", ErrStoreNotEmpty, entries)
	}
	return false, err
}

// tokenIsFit accepts a token with nothing in it, or with what an earlier run of this restore left.
func (w *work) tokenIsFit(ctx context.Context) error {
	inventory, err := w.Token.Inventory(ctx)
	if err != nil {
		return err
	}
	begun := false
	for _, o := range inventory.Objects {
		begun = begun || w.isBackupKey(o)
	}
	for _, o := range inventory.Objects {
		if !begun || !w.isOurs(o) {
			return fmt.Errorf("%w: it has the %v %q", ErrTokenNotEmpty, o.Kind, o.Label)
		}
		w.present[o.Label] = true
	}
	return nil
}

func (w *work) isBackupKey(o hsm.Object) bool {
	return o.Kind == hsm.ObjectBackup && o.Label == w.backup.Label && o.HasKCV && o.KCV.String() == w.backup.KCV.Value
}

func (w *work) isOurs(o hsm.Object) bool {
	if o.Kind == hsm.ObjectSealing || w.isBackupKey(o) {
		return true
	}
	for _, m := range w.masters {
		if m.spec.Label == o.Label && m.spec.ID == o.ID && o.HasKCV && o.KCV == m.spec.KCV {
			return true
		}
	}
	return false
}

// fillToken makes everything. Each master's check value is compared by the token before and after.
func (w *work) fillToken(ctx context.Context) error {
	key, err := escrow.WrappingKey(w.Seed) // in locked memory as long as copies are opened
	if err != nil {
		return err
	}
	defer key.Wipe()
	w.key = true
	if err := w.again(w.backup.Label, func() error { return w.Token.AbandonBackupKey(ctx, w.name) }); err != nil {
		return err
	}
	if _, err := w.Token.ImportBackupKey(ctx, w.name, key); err != nil {
		return err
	}
	w.Tell("backup key " + w.backup.Label + ": restored")
	for _, m := range w.masters {
		w.made = append(w.made, m.spec)
		if err := w.again(m.spec.Label, func() error { return w.Token.AbandonMaster(ctx, m.spec.Label, m.spec.ID) }); err != nil {
			return err
		}
		if err := w.Token.RestoreMaster(ctx, m.spec, key, m.wrapped); err != nil {
			return err
		}
		w.Tell(m.spec.Label + ": restored, check value " + m.spec.KCV.String())
	}
	return nil
}

// again destroys what an earlier run left under a label. It is made anew and not taken over: a check value of three bytes is found for
// another key in 2²⁴ tries, by whoever could log in to the token between the runs.
func (w *work) again(label string, abandon func() error) error {
	if !w.present[label] {
		return nil
	}
	w.Tell(label + ": there from an earlier run, made anew")
	if err := abandon(); !errors.Is(err, hsm.ErrKeyNotFound) {
		return err
	}
	return nil
}

// undo destroys what this run made. The sealing key of the PROCESS boundary stays: it seals nothing.
func (w *work) undo(ctx context.Context) (err error) {
	ctx = context.WithoutCancel(ctx)
	for _, spec := range w.made {
		if e := w.Token.AbandonMaster(ctx, spec.Label, spec.ID); !errors.Is(e, hsm.ErrKeyNotFound) {
			err = errors.Join(err, e)
		}
	}
	if w.key {
		if e := w.Token.AbandonBackupKey(ctx, w.name); !errors.Is(e, hsm.ErrKeyNotFound) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return fmt.Errorf("the token may hold keys of the restore still, which another run makes anew: %w", err)
	}
	return nil
}

// commit puts the catalogue into the store, and the restore into the record.
func (w *work) commit(ctx context.Context, r Result, surviving bool) (index uint64, err error) {
	document, err := r.Catalogue.Encode()
	if err != nil {
		return 0, err
	}
	digest, err := r.Catalogue.Digest()
	if err != nil {
		return 0, err
	}
	registered, err := custody.Registered(r.Catalogue, digest, w.Now)
	if err != nil {
		return 0, err
	}
	detail := fmt.Sprintf("revision %d of token %s, made %s, catalogue %s; now revision %d, catalogue %s; %d keys", w.File.Revision, w.File.Token,
		w.File.Created.UTC().Format(time.RFC3339), w.File.Catalogue, r.Catalogue.Revision, digest, len(w.masters))
	if len(r.Lost) > 0 {
		detail += "; lost without a copy: " + strings.Join(r.Lost, " ")
	}
	change := store.Change{Custody: true, Restores: true, Decide: func(p *store.Purse, at uint64) ([]audit.Entry, error) {
		now := p.Custody()
		if (now.Revision != 0) != surviving || surviving && string(now.Document) != w.content.Catalogue {
			return nil, fmt.Errorf("%w: its catalogue came to be while the restore ran", ErrStoreNotEmpty)
		}
		now.Revision, now.Document = r.Catalogue.Revision, document
		index = at
		entries := []audit.Entry{{Event: audit.Restored, Time: w.Now, Outcome: "RESTORED", Detail: detail}}
		if !surviving {
			entries = append(entries, registered...)
		}
		return entries, nil
	}}
	return index, w.Store.Commit(ctx, change)
}
