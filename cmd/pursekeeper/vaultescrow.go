package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/internal/source"
	"github.com/pursekeeper/pursekeeper/internal/strictyaml"
)

// vaultFlag names the transit key that keeps a backup key's seed.
type vaultFlag struct {
	Vault string `help:"File that names Vault's transit key: address, caFile, namespace, mount, key, and token or appRole, as docs/backup.md has it." type:"existingfile" placeholder:"FILE"`
}

// transit reads the file.
func (f vaultFlag) transit() (*source.Transit, string, error) {
	var spec source.TransitSpec
	if _, err := strictyaml.Read(f.Vault, &spec); err != nil {
		return nil, "", fmt.Errorf("--vault: %w", err)
	}
	transit, err := source.NewTransit(spec, filepath.Dir(f.Vault))
	if err != nil {
		return nil, "", fmt.Errorf("--vault %s: %w", f.Vault, err)
	}
	return transit, spec.Key, nil
}

// vaultBinding ties the wrapped seed to its file recipient: the seed of another backup is not unwrapped in its place.
func vaultBinding(recipient string) []byte { return []byte("pursekeeper backup v1 " + recipient) }

// share has Vault wrap the seed, and proves it by unwrapping it again. name is the transit key that the change approved.
func (f vaultFlag) share(ctx context.Context, name, recipient string, seed secret.Bytes) (share custody.Share, err error) {
	if f.Vault == "" {
		return share, errors.New("--vault: missing, for a backup key that Vault keeps")
	}
	transit, key, err := f.transit()
	if err != nil {
		return share, err
	}
	if key != name {
		return share, fmt.Errorf("--vault: the file says transit key %s, the change %s", key, name)
	}
	share = custody.Share{Holder: custody.VaultHolder, Recipient: name}
	if share.Ciphertext, err = transit.Wrap(ctx, seed, vaultBinding(recipient)); err != nil {
		return share, err
	}
	again, err := transit.Unwrap(ctx, share.Ciphertext, vaultBinding(recipient))
	if err != nil {
		return share, err
	}
	defer again.Wipe()
	if !again.Equal(seed) {
		return share, errors.New("vault unwraps another seed than it wrapped")
	}
	return share, nil
}

var errNotInVault = errors.New("the backup key of this file is in the hands of officers, not in Vault")

// seed has Vault unwrap the seed; the caller wipes it.
func (f vaultFlag) seed(ctx context.Context, backup custody.Backup) (secret.Bytes, error) {
	if len(backup.Shares) != 1 || backup.Shares[0].Holder != custody.VaultHolder {
		return secret.Bytes{}, errNotInVault
	}
	transit, _, err := f.transit()
	if err != nil {
		return secret.Bytes{}, err
	}
	seed, err := transit.Unwrap(ctx, backup.Shares[0].Ciphertext, vaultBinding(backup.Recipient))
	if err != nil {
		return secret.Bytes{}, err
	}
	if err := escrow.Prove(backup, seed); err != nil {
		seed.Wipe()
		return secret.Bytes{}, err
	}
	return seed, nil
}
