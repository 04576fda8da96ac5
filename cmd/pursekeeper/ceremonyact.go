package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
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
func newMaster(plan *ceremony.Plan, w warrant) (spec hsm.KeySpec, under hsm.Backup, err error) {
	label := custody.Label(plan.Set, plan.Name)
	spec, err = masterSpec(w.catalogue.KeySet(plan.Set).Definition, custody.Key{
		Name: plan.Name, Boundary: plan.Boundary, KCV: plan.KCV, Label: label, ID: custody.ObjectID(w.change.ID, label),
	})
	if err != nil || w.change.Keys.WithoutBackup {
		return spec, hsm.WithoutBackup(), err
	}
	if w.catalogue.Backup == nil {
		return spec, under, escrow.ErrNoBackup
	}
	value, err := kcv.Parse(w.catalogue.Backup.KCV.Value)
	return spec, hsm.BackupUnder(hsm.BackupKeyName(w.catalogue.Backup.Label), value), err
}

// keep puts a master into the token, after what an earlier try of the same change may have left there.
func (r *strongroom) keep(ctx context.Context, w warrant, spec hsm.KeySpec, under hsm.Backup, key secret.Bytes, record *ceremony.Record) (made custody.Made, undo func(context.Context) error, err error) {
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

// createBackup is backup.create. The seed is in locked memory until this function returns.
func createBackup(ctx context.Context, room *strongroom, screen *console, w warrant, record *ceremony.Record) (made custody.Made, undo func(context.Context) error, err error) {
	plan := record.Plan
	if plan.Vault != "" {
		return made, nil, errors.New("a backup key in Vault is not built yet")
	}
	if copied := copies(w.catalogue); len(copied) > 0 {
		return made, nil, fmt.Errorf("keys have copies under the backup key that there is, and making them anew is not built yet: %s", strings.Join(copied, ", "))
	}
	var holders []custody.Officer
	for _, name := range plan.Holders {
		officer, _ := w.catalogue.Officer(name) // Allows has seen that it is there
		if _, err := escrow.RecipientOf(officer); err != nil {
			return made, nil, err
		}
		holders = append(holders, officer)
	}
	if err := screen.Show(fmt.Sprintf("A new backup key, any %d of %s bring it back.\n", plan.Threshold, strings.Join(plan.Holders, ", "))); err != nil {
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
	if backup.Shares, err = escrow.Split(rand.Reader, seed, plan.Threshold, holders); err != nil {
		return made, nil, err
	}
	if backup.Recipient, err = escrow.FileRecipient(seed); err != nil {
		return made, nil, err
	}
	undo, err = room.keepBackupKey(ctx, seed, &backup)
	if err != nil {
		return made, nil, err
	}
	record.Outcome = fmt.Sprintf("the backup key is in the token; any %d of %d shares bring it back", plan.Threshold, len(holders))
	record.Details = append(record.Details, [2]string{"backup key", "check value " + backup.KCV.Value}, [2]string{"file key", backup.Recipient})
	for _, share := range backup.Shares {
		record.Details = append(record.Details, [2]string{"share", "of " + share.Holder + ", to " + share.Recipient})
	}
	return custody.Made{Backup: &backup}, undo, nil
}

// keepBackupKey puts the backup key into the token, and fills in its check value. What an earlier try of the same change left has no seed
// any more, and nothing is wrapped under it.
func (r *strongroom) keepBackupKey(ctx context.Context, seed secret.Bytes, backup *custody.Backup) (undo func(context.Context) error, err error) {
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

// copies are the labels of keys that have a copy.
func copies(c custody.Catalogue) (labels []string) {
	for _, set := range c.KeySets {
		for _, k := range set.Keys {
			if k.Wrapped != "" {
				labels = append(labels, k.Label)
			}
		}
	}
	return labels
}
