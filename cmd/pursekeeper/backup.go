package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
	"github.com/pursekeeper/pursekeeper/store"
)

// backupCmd writes everything that a new token and a new store need into one file.
type backupCmd struct {
	Config string `help:"Configuration file of the signer." required:"" type:"existingfile"`
	Out    string `help:"The file to write. It must not be there." required:"" type:"path"`
}

// Run seals, records, and writes.
func (c *backupCmd) Run(ctx context.Context) (err error) {
	if err := absent(c.Out); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	room, err := openStrongroom(ctx, c.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, room.close()) }()
	configuration, err := os.ReadFile(c.Config)
	if err != nil {
		return err
	}
	catalogue, held, err := room.catalogue(ctx)
	if err != nil {
		return err
	}
	if catalogue.Backup == nil {
		return escrow.ErrNoBackup // before a key is made to sign with
	}
	signing := &node{config: room.config, log: room.log, token: room.token}
	key, err := signing.checkpointKey(ctx)
	if err != nil {
		return err
	}
	data, err := escrow.Seal(escrow.Header{Created: time.Now().UTC().Truncate(time.Second), Token: room.config.Token.Label, Program: programVersion()},
		escrow.Content{Catalogue: string(held.Document), Configuration: string(configuration), AuditKey: key.text}, key)
	if err != nil {
		return err
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(data))
	if err := room.record(ctx, audit.BackupMade, fmt.Sprintf("revision %d, SHA-256 %s", catalogue.Revision, digest)); err != nil {
		return err
	}
	if err := writeNew(c.Out, data); err != nil {
		return err
	}
	copied, without := 0, 0
	for _, set := range catalogue.KeySets {
		for _, k := range set.Keys {
			switch {
			case k.Wrapped != "":
				copied++
			case k.State.String() != "destroyed":
				without++
				fmt.Printf("NOT in the backup, for it has no copy: %s\n", k.Label)
			}
		}
	}
	fmt.Printf("wrote %s: %d keys, catalogue revision %d\nSHA-256 %s\n", c.Out, copied, catalogue.Revision, digest)
	fmt.Printf("keep apart from it: the revision, %d, and the key that it is signed with, %s\n", catalogue.Revision, key.text)
	return nil
}

// record adds one entry about an act of officers.
func (r *strongroom) record(ctx context.Context, event audit.Event, detail string) error {
	now := time.Now()
	return r.store.Commit(ctx, store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) {
		return []audit.Entry{{Event: event, Time: now, Outcome: "OK", Detail: detail}}, nil
	}})
}
