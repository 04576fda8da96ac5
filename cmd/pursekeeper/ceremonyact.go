package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/ceremony"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// act is what a kind of ceremony does with persons and token, up to the point where only the catalogue is left. undo takes back what it made in
// the token, for the case that the catalogue does not come to know it. A process that is killed in between leaves it, and the next
// ceremony of the same change destroys it first: it has the change's own ids.
type act func(ctx context.Context, room *strongroom, screen *console, w warrant, record *ceremony.Record) (made custody.Made, undo func(context.Context) error, err error)

var acts = map[ceremony.Kind]act{
	ceremony.ImportKey:       importComponents,
	ceremony.ImportTransport: importTransport,
	ceremony.ImportBlock:     importBlock,
	ceremony.ExportBlock:     exportBlock,
	ceremony.CreateBackup:    createBackup,
}

// importComponents is key.import from components. The master is in locked memory until the token has it.
func importComponents(ctx context.Context, room *strongroom, screen *console, w warrant, record *ceremony.Record) (made custody.Made, undo func(context.Context) error, err error) {
	plan := record.Plan
	spec, under, err := newMaster(plan, w)
	if err != nil {
		return made, nil, err
	}
	record.Whole, err = ceremony.Enter(ctx, screen, plan)
	if err != nil {
		return made, nil, err
	}
	defer record.Whole.Key.Wipe()
	if err := screen.Show(fmt.Sprintf("Check value of the whole key: %v, as approved.\n", record.Whole.KCV)); err != nil {
		return made, nil, err
	}
	if err := ceremony.ConfirmSubject(ctx, screen, plan); err != nil {
		return made, nil, err
	}
	return room.keep(ctx, w, spec, under, record.Whole.Key, record)
}

// newMaster is how the token will find the key of the change, and what becomes of its copy.
func newMaster(plan *ceremony.Plan, w warrant) (spec hsm.KeySpec, copies hsm.Backup, err error) {
	label := custody.Label(plan.Set, plan.Name)
	spec, err = masterSpec(w.catalogue.KeySet(plan.Set).Definition, custody.Key{
		Name: plan.Name, Boundary: plan.Boundary, KCV: plan.KCV, Label: label, ID: custody.ObjectID(w.change.ID, label),
	})
	if err != nil || w.change.Keys.WithoutBackup {
		return spec, hsm.WithoutBackup(), err
	}
	if w.catalogue.Backup == nil {
		return spec, copies, escrow.ErrNoBackup
	}
	copies, err = under(*w.catalogue.Backup)
	return spec, copies, err
}

// keep puts a master into the token, after what an earlier try of the same change may have left there.
func (r *strongroom) keep(ctx context.Context, w warrant, spec hsm.KeySpec, under hsm.Backup, key secret.Bytes, record *ceremony.Record) (made custody.Made, undo func(context.Context) error, err error) {
	ctx = context.WithoutCancel(ctx) // the last word was typed
	undo = func(ctx context.Context) error {
		err := r.token.AbandonMaster(ctx, spec.Label, spec.ID)
		if errors.Is(err, hsm.ErrKeyNotFound) {
			return nil
		}
		return err
	}
	if err := undo(ctx); err != nil {
		return made, undo, err
	}
	wrapped, err := r.token.ImportMasterWithBackup(ctx, spec, key, under)
	if err != nil {
		return made, undo, err
	}
	record.Outcome = "the key is in the token, pre-active: it signs after a change activates it"
	record.Details = append(record.Details, [2]string{"label", spec.Label}, [2]string{"id", spec.ID.String()}, [2]string{"copy", copyOf(w)})
	made.Keys = []custody.MadeKey{{
		Set: record.Plan.Set, Name: record.Plan.Name, KCV: record.Plan.KCV, Label: spec.Label, ID: spec.ID.String(), Wrapped: hex.EncodeToString(wrapped),
	}}
	return made, undo, nil
}

func copyOf(w warrant) string {
	if w.change.Keys.WithoutBackup {
		return "none: it is lost with its token"
	}
	return "under the backup key " + w.catalogue.Backup.KCV.Value
}

// createBackup is backup.create. The seed is in locked memory until this function returns; what Vault is sent is in ordinary Go memory too.
func createBackup(ctx context.Context, room *strongroom, screen *console, w warrant, record *ceremony.Record) (made custody.Made, undo func(context.Context) error, err error) {
	plan := record.Plan
	back := fmt.Sprintf("any %d of %s bring it back", plan.Threshold, strings.Join(plan.Holders, ", "))
	if plan.Vault != "" {
		back = "Vault's transit key " + plan.Vault + " brings it back"
	}
	holders, err := holdersOf(plan, w.catalogue)
	if err != nil {
		return made, nil, err
	}
	if err := screen.Show("A new backup key: " + back + ".\n"); err != nil {
		return made, nil, err
	}
	if err := ceremony.ConfirmSubject(ctx, screen, plan); err != nil {
		return made, nil, err
	}
	seed, err := escrow.NewSeed(rand.Reader)
	if err != nil {
		return made, nil, err
	}
	defer seed.Wipe()
	backup := custody.Backup{Label: hsm.BackupKeyLabel(w.change.ID), Threshold: plan.Threshold}
	if backup.Recipient, err = escrow.FileRecipient(seed); err != nil {
		return made, nil, err
	}
	if plan.Vault != "" {
		backup.Shares = make([]custody.Share, 1)
		backup.Shares[0], err = room.shares.share(ctx, plan.Vault, backup.Recipient, seed)
	} else {
		backup.Shares, err = escrow.Split(rand.Reader, seed, plan.Threshold, holders)
	}
	if err != nil {
		return made, nil, err
	}
	if undo, err = room.keepBackupKey(ctx, seed, &backup); err != nil {
		return made, nil, err
	}
	made.Backup = &backup
	if made.Keys, err = room.copyAnew(ctx, w.catalogue, backup); err != nil {
		return made, nil, errors.Join(err, undo(context.WithoutCancel(ctx)))
	}
	record.Outcome = "the backup key is in the token; " + back
	record.Details = append(record.Details, [2]string{"copies", fmt.Sprintf("%d made anew under it", len(made.Keys))})
	record.Details = append(record.Details, [2]string{"backup key", "check value " + backup.KCV.Value}, [2]string{"file key", backup.Recipient})
	for _, share := range backup.Shares {
		record.Details = append(record.Details, [2]string{"share", "of " + share.Holder + ", to " + share.Recipient})
	}
	return made, undo, nil
}

// holdersOf are the officers who get a share, each of whom something can be encrypted to.
func holdersOf(plan *ceremony.Plan, catalogue custody.Catalogue) (holders []custody.Officer, err error) {
	for _, name := range plan.Holders {
		officer, there := catalogue.Officer(name)
		if !there {
			return nil, fmt.Errorf("%w: %s", custody.ErrNotAnOfficer, name)
		}
		if _, err := escrow.RecipientOf(officer); err != nil {
			return nil, err
		}
		holders = append(holders, officer)
	}
	return holders, nil
}

// keepBackupKey puts the backup key into the token, and fills in its check value. What an earlier try of the same change left has no seed
// any more, and nothing is wrapped under it.
func (r *strongroom) keepBackupKey(ctx context.Context, seed secret.Bytes, backup *custody.Backup) (undo func(context.Context) error, err error) {
	ctx = context.WithoutCancel(ctx) // the last word was typed
	name := hsm.BackupKeyName(backup.Label)
	undo = func(ctx context.Context) error {
		err := r.token.AbandonBackupKey(ctx, name)
		if errors.Is(err, hsm.ErrKeyNotFound) {
			return nil
		}
		return err
	}
	if err := undo(ctx); err != nil {
		return nil, err
	}
	key, err := escrow.WrappingKey(seed)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	value, err := r.token.ImportBackupKey(ctx, name, key)
	if err != nil {
		return nil, err
	}
	backup.KCV = custody.CheckValue{Value: value.String(), Algorithm: "AES-KW"}
	return undo, nil
}
