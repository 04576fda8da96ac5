package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/secret"
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
	next, err := under(to)
	if err != nil {
		return nil, err
	}
	var from secret.Bytes
	defer func() { from.Wipe() }()
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
			if from.Len() == 0 { // asked for when there is a copy alone
				if from, err = r.backupKey(ctx, *catalogue.Backup); err != nil {
					return nil, fmt.Errorf("the copies there are: %w", err)
				}
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

// backupKey brings the bytes of a backup key back, which opens copies; the one in the token only makes them. The caller wipes it.
func (r *strongroom) backupKey(ctx context.Context, backup custody.Backup) (secret.Bytes, error) {
	seed, err := r.shares.seed(ctx, backup)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer seed.Wipe()
	return escrow.WrappingKey(seed)
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
