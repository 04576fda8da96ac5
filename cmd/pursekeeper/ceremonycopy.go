package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
)

// under names a catalogue's backup key to the token.
func under(backup custody.Backup) (hsm.Backup, error) {
	value, err := kcv.Parse(backup.KCV.Value)
	return hsm.BackupUnder(hsm.BackupKeyName(backup.Label), value), err
}

// copyAnew makes copies under a new backup key of all that there are under the old one.
func (r *strongroom) copyAnew(ctx context.Context, catalogue custody.Catalogue, to custody.Backup) (keys []custody.MadeKey, err error) {
	if catalogue.Backup == nil {
		return nil, nil
	}
	from, err := under(*catalogue.Backup)
	if err != nil {
		return nil, err
	}
	next, err := under(to)
	if err != nil {
		return nil, err
	}
	for _, set := range catalogue.KeySets {
		for _, k := range set.Keys {
			if k.Wrapped == "" {
				continue
			}
			spec, err := masterSpec(set.Definition, k)
			if err != nil {
				return nil, err
			}
			wrapped, err := hex.DecodeString(k.Wrapped)
			if err != nil {
				return nil, fmt.Errorf("copy of %s: %w", k.Label, err)
			}
			anew, err := r.token.CopyAnew(ctx, spec, from, wrapped, next)
			if err != nil {
				return nil, err
			}
			keys = append(keys, custody.MadeKey{Set: set.Name, Name: k.Name, KCV: k.KCV, Label: k.Label, ID: k.ID, Wrapped: hex.EncodeToString(anew)})
		}
	}
	return keys, nil
}

// retire destroys the backup key that another took the place of. Backups that were made before are opened by their own shares.
func (r *strongroom) retire(ctx context.Context, was *custody.Backup) error {
	if was == nil {
		return nil
	}
	err := r.token.AbandonBackupKey(ctx, hsm.BackupKeyName(was.Label))
	if errors.Is(err, hsm.ErrKeyNotFound) {
		return nil
	}
	return err
}
