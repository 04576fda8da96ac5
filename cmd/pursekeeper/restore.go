package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pursekeeper/pursekeeper/custody/escrow"
	"github.com/pursekeeper/pursekeeper/custody/recovery"
)

// restoreCmd puts a backup into an empty token and an empty store.
type restoreCmd struct {
	Config        string `help:"Configuration file that names the empty token and the empty store; or the store of the backup, when its token alone was lost." required:"" type:"existingfile"`
	In            string `help:"The backup file." required:"" type:"existingfile"`
	keyFlag       `embed:""`
	Revision      uint64 `help:"The catalogue's revision that the file must hold: the newest that is known, so that an older file is not taken." required:""`
	shareFlags    `embed:""`
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
	if err := harden(); err != nil { // before the first share is opened
		return err
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
	if err := room.holdAlone(ctx); err != nil {
		return err
	}
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
	for _, one := range result.Catalogue.Rules.Clients {
		fmt.Printf("client %s\n", clientLine(one))
	}
	fmt.Println("Whoever officers suspended or removed after this backup was made may call again, as this list says: suspend them before clients reach the service.")
	if c.Configuration == "" {
		return nil
	}
	if err := writeNew(c.Configuration, []byte(result.Content.Configuration)); err != nil {
		return fmt.Errorf("the keys are restored; the configuration was not written: %w", err)
	}
	fmt.Printf("wrote %s\n", c.Configuration)
	return nil
}
