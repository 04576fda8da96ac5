package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/archive"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/store"
)

// auditArchiveCmd copies the sealed log elsewhere: the first of the two steps by which entries leave the database.
type auditArchiveCmd struct {
	Dir string `help:"Folder of the sealed log." default:".pursekeeper/audit" type:"existingdir"`
	Key string `help:"The log's verifier key, or its file. Left out: DIR.pub."`
	To  string `help:"Folder of the archive: made, or brought up to date. On another disk." required:"" type:"path"`
}

// Run copies what is new and verifies the whole copy.
func (c *auditArchiveCmd) Run(ctx context.Context) error {
	key, err := keyBeside(c.Key, c.Dir)
	if err != nil {
		return err
	}
	archived, err := archive.Copy(ctx, tiles.Folder(c.Dir), tiles.Folder(c.To), key)
	if err != nil {
		return err
	}
	fmt.Printf("archived     %s has %d entries, root %v, and verifies\n", c.To, archived.Size, archived.Root)
	return nil
}

// keyBeside is the log's key: the one named, or the one beside its folder.
func keyBeside(key, dir string) (note.Verifier, error) {
	if key == "" {
		key = strings.TrimRight(dir, "/") + ".pub"
	}
	return keyFlag{key}.verifier()
}

// auditPruneCmd deletes sealed and archived entries from the database of a signer, which may run: the second step.
type auditPruneCmd struct {
	Config     string      `help:"Configuration of the signer." required:"" type:"existingfile"`
	Before     recordPlace `help:"Entries before this index, or this time (RFC 3339), leave the database; whole bundles of 256, and never the newest." required:"" placeholder:"INDEX|TIME"`
	Archive    string      `help:"The archive that audit archive made." required:"" type:"existingdir"`
	Checkpoint string      `help:"A checkpoint of the log that was saved before, elsewhere." required:"" type:"existingfile" placeholder:"SAVED"`
	Key        string      `help:"The log's verifier key, or its file, as it is kept elsewhere. Left out: the one beside the log."`
}

// Run verifies everything, then prunes.
func (c *auditPruneCmd) Run(ctx context.Context) (err error) {
	cfg, err := config.Read(c.Config)
	if err != nil {
		return err
	}
	key, err := keyBeside(c.Key, cfg.Audit.Directory)
	if err != nil {
		return err
	}
	saved, err := os.ReadFile(c.Checkpoint)
	if err != nil {
		return err
	}
	if err := storeThere(ctx, cfg); err != nil { // none is made here
		return err
	}
	database, err := openStore(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Close()) }()
	pruned, err := archive.Prune(ctx, archive.Config{
		Database: database, Log: tiles.Folder(cfg.Audit.Directory), Archive: tiles.Folder(c.Archive), Key: key, Saved: saved,
		Index: c.Before.index, Time: c.Before.at,
		Record: func(ctx context.Context, e audit.Entry) error {
			return database.Commit(ctx, store.Change{Decide: func(*store.Purse, uint64) ([]audit.Entry, error) { return []audit.Entry{e}, nil }})
		},
	})
	if err != nil {
		return err
	}
	fmt.Printf("verified     the log and the archive, under the checkpoint of %d entries\n", pruned.Checkpoint.Size)
	fmt.Printf("pruned       %d entries left the database, which has those from %d on; the sealed log has them all\n", pruned.Deleted, pruned.Before)
	return nil
}
