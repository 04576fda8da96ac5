package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pursekeeper/pursekeeper/crypto/shamir"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
	"github.com/pursekeeper/pursekeeper/custody/recovery"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// restoreCmd puts a backup into an empty token and an empty store.
type restoreCmd struct {
	Config        string `help:"Configuration file that names the empty token and the empty store; or the store of the backup, when its token alone was lost." required:"" type:"existingfile"`
	In            string `help:"The backup file." required:"" type:"existingfile"`
	keyFlag       `embed:""`
	Revision      uint64   `help:"The catalogue's revision that the file must hold: the newest that is known, so that an older file is not taken." required:""`
	ShareIdentity []string `help:"An officer's identity: an age identity file, or an SSH private key. Once for each officer." type:"existingfile" placeholder:"FILE"`
	vaultFlag     `embed:""`
	TypeShares    bool   `help:"Ask at the terminal for shares that officers have decrypted themselves, until there are enough."`
	Configuration string `name:"write-config" help:"Write the configuration that is in the backup to this file, which must not be there." type:"path" placeholder:"FILE"`
}

// Run proves the file, brings the backup key back, and restores.
func (c *restoreCmd) Run(ctx context.Context) (err error) {
	verifier, err := c.verifier()
	if err != nil {
		return err
	}
	if c.Configuration != "" {
		if err := absent(c.Configuration); err != nil {
			return fmt.Errorf("--write-config: %w", err)
		}
	}
	data, err := os.ReadFile(c.In)
	if err != nil {
		return err
	}
	file, err := escrow.Read(data, verifier)
	if err != nil {
		return fmt.Errorf("%s: %w", c.In, err)
	}
	if err := file.Expect(c.Revision); err != nil {
		return fmt.Errorf("%s: %w", c.In, err)
	}
	seed, err := c.seed(ctx, file.Backup)
	if err != nil {
		return err
	}
	defer seed.Wipe()
	room, err := openStrongroom(ctx, c.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, room.close()) }()
	var id [16]byte
	rand.Read(id[:])
	result, err := recovery.Run(ctx, recovery.Config{
		Token: room.token, Store: room.store, File: file, Seed: seed, Spec: masterSpec, ID: hex.EncodeToString(id[:]),
		Now: time.Now(), Tell: func(line string) { fmt.Println(line) },
	})
	if err != nil {
		return fmt.Errorf("nothing was restored: %w", err)
	}
	return c.report(result)
}

func (c *restoreCmd) report(result recovery.Result) error {
	for _, lost := range result.Lost {
		fmt.Printf("LOST, for it has no copy: %s\n", lost)
	}
	fmt.Printf("restored: %d keys, catalogue revision %d, audit index %d\n", len(result.Keys), result.Catalogue.Revision, result.AuditIndex)
	if c.Configuration == "" {
		return nil
	}
	if err := writeNew(c.Configuration, []byte(result.Content.Configuration)); err != nil {
		return fmt.Errorf("the keys are restored; the configuration was not written: %w", err)
	}
	fmt.Printf("wrote %s\n", c.Configuration)
	return nil
}

// seed collects shares until there are enough. The caller wipes the seed.
func (c *restoreCmd) seed(ctx context.Context, backup custody.Backup) (seed secret.Bytes, err error) {
	if c.Vault != "" {
		if len(c.ShareIdentity) > 0 || c.TypeShares {
			return seed, errors.New("--vault: either Vault has the backup key, or officers have")
		}
		return c.vaultFlag.seed(ctx, backup)
	}
	var shares []shamir.Share
	defer func() {
		for i := range shares {
			shares[i].Wipe()
		}
	}()
	for _, path := range c.ShareIdentity {
		holder, share, err := openShare(ctx, backup, path)
		if err != nil {
			return seed, fmt.Errorf("--share-identity %s: %w", path, err)
		}
		shares = append(shares, share)
		fmt.Printf("%v, of %s\n", share, holder)
	}
	for c.TypeShares && len(shares) < backup.Threshold {
		share, err := typeShare(ctx, len(shares)+1, backup.Threshold)
		if err != nil {
			return seed, err
		}
		shares = append(shares, share)
		fmt.Printf("%v\n", share)
	}
	return escrow.Combine(backup, shares)
}
