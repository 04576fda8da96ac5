package main

import (
	"fmt"
	"os"

	"github.com/pursekeeper/pursekeeper/custody/escrow"
)

// shareCmd takes one officer's encrypted share out of a backup, for the officer to decrypt elsewhere.
type shareCmd struct {
	File    string `arg:"" help:"The backup file." type:"existingfile"`
	keyFlag `embed:""`
	Holder  string `help:"The officer." required:""`
}

// Run prints the share as it is in the file: encrypted, an armoured age file.
func (c *shareCmd) Run() error {
	verifier, err := c.verifier()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	file, err := escrow.Read(data, verifier)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	for _, share := range file.Backup.Shares {
		if share.Holder == c.Holder {
			fmt.Print(share.Ciphertext)
			return nil
		}
	}
	return fmt.Errorf("%s: %s holds no share of it", c.File, c.Holder)
}
