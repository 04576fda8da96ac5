package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
)

// auditCmd is what an auditor does with the sealed record: files in, a verdict out; no token, no database, no network. Replay asks a
// signer, and so do those that take --server; prune works on a signer's database.
type auditCmd struct {
	Verify     auditVerifyCmd     `cmd:"" help:"Verify a whole sealed log. Ends with 0 only when all held."`
	Prove      auditProveCmd      `cmd:"" help:"Write one entry with the proof that it is in the log."`
	CheckProof auditCheckProofCmd `cmd:"" help:"Verify such a proof. Ends with 0 only when it holds."`
	List       auditListCmd       `cmd:"" help:"List sealed entries, a line each."`
	Show       auditShowCmd       `cmd:"" help:"Show one sealed entry in full, or a card's life on one page."`
	Checkpoint auditCheckpointCmd `cmd:"" help:"Print the newest signed checkpoint, to be saved."`
	Approvals  auditApprovalsCmd  `cmd:"" help:"Write every approval of the record with its signature, for ssh-keygen -Y verify."`
	Policy     auditPolicyCmd     `cmd:"" help:"Find the rules that decided an entry, by their digest, in the record alone."`
	Export     auditExportCmd     `cmd:"" help:"Write sealed entries as JSON Lines or CSV."`
	Replay     auditReplayCmd     `cmd:"" help:"Have the signer compare the record with its keys. Ends with 0 only when nothing differs."`
	Archive    auditArchiveCmd    `cmd:"" help:"Copy the sealed log to another folder, and verify the copy."`
	Prune      auditPruneCmd      `cmd:"" help:"Delete sealed and archived entries from a signer's database."`
}

// keyFlag is the log's public key: all that is believed.
type keyFlag struct {
	Key string `help:"The log's verifier key: its file, such as .pursekeeper/audit.pub, or the key itself." required:""`
}

func (f keyFlag) verifier() (note.Verifier, error) {
	if key, err := note.NewVerifier(f.Key); err == nil {
		return key, nil
	}
	key, err := tiles.ReadKey(f.Key)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	return key, nil
}

type auditVerifyCmd struct {
	Dir        string `arg:"" help:"Folder of the log, such as .pursekeeper/audit." type:"existingdir"`
	keyFlag    `embed:""`
	Checkpoint string        `help:"A checkpoint of this log that you saved before: finds a cut tail, an old checkpoint, a rewritten log and a fork." type:"existingfile" placeholder:"SAVED"`
	Witness    []string      `help:"Key of a witness, NAME+HASH+KEY or a file with it, who must have signed the log's checkpoint; repeatable. Finds a rewritten log and a fork." placeholder:"KEY"`
	Witnesses  int           `help:"So many of them are enough; 0 for all." placeholder:"N"`
	Within     time.Duration `name:"witnessed-within" help:"They must have signed last so long ago at most, such as 1h: finds an old checkpoint served as new." placeholder:"TIME"`
	KnownClock []uint64      `help:"Indexes of entries at which a clock was set back, as you know: no finding." placeholder:"INDEX"`
	JSON       bool          `help:"Write the report as JSON."`
	Quiet      bool          `help:"Show no progress." short:"q"`
}

// errDamaged ends the process with 1; what is wrong is printed before.
var errDamaged = errors.New("the log does not hold")

// Run verifies and prints what was checked, and what was not.
func (c *auditVerifyCmd) Run(ctx context.Context) error {
	key, err := c.verifier()
	if err != nil {
		return err
	}
	config := verifier.Config{Folder: tiles.Folder(c.Dir), Key: key, KnownClock: c.KnownClock}
	if c.Checkpoint != "" {
		if config.Saved, err = os.ReadFile(c.Checkpoint); err != nil {
			return err
		}
	}
	if err := c.witnesses(&config); err != nil {
		return err
	}
	if !c.Quiet && isTerminal(os.Stderr) {
		config.Progress = func(done, of uint64) { fmt.Fprintf(os.Stderr, "\r%d of %d entries", done, of) }
		defer fmt.Fprint(os.Stderr, "\r\033[K")
	}
	began := time.Now()
	report, err := verifier.Verify(ctx, config)
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(os.Stdout).Encode(report)
	} else {
		printReport(os.Stdout, report, key, time.Since(began))
	}
	if err == nil && !report.Held() {
		err = errDamaged
	}
	return err
}

// witnesses reads the keys of witnesses: none twice, for one key under two names is one witness.
func (c *auditVerifyCmd) witnesses(config *verifier.Config) error {
	for _, text := range c.Witness {
		key, err := tiles.ParseWitness(text)
		if err != nil {
			data, readErr := os.ReadFile(text)
			if readErr != nil {
				return fmt.Errorf("--witness: %w", errors.Join(err, readErr))
			}
			if key, err = tiles.ParseWitness(strings.TrimSpace(string(data))); err != nil {
				return fmt.Errorf("--witness %s: %w", text, err)
			}
		}
		for _, other := range config.Witnesses {
			if key.Same(other) {
				return fmt.Errorf("--witness: %s and %s have one key: one witness", other.Name(), key.Name())
			}
		}
		config.Witnesses = append(config.Witnesses, key)
	}
	switch {
	case c.Witnesses < 0 || c.Witnesses > len(c.Witness):
		return fmt.Errorf("--witnesses: %d, expected 0 to %d, the keys that are given", c.Witnesses, len(c.Witness))
	case c.Within != 0 && len(c.Witness) == 0:
		return errors.New("--witnessed-within: has no use without --witness")
	case c.Within > 0:
		config.WitnessedSince = time.Now().Add(-c.Within)
	case c.Within < 0:
		return fmt.Errorf("--witnessed-within: %v, expected a time such as 1h", c.Within)
	}
	config.Quorum = c.Witnesses
	return nil
}

// isTerminal reports whether a file is one, for progress.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func printReport(out io.Writer, r *verifier.Report, key note.Verifier, took time.Duration) {
	for _, f := range r.Findings {
		fmt.Fprintf(out, "WRONG        %s: %s\n", f.Kind, f.Text)
	}
	if r.More > 0 {
		fmt.Fprintf(out, "WRONG        and %d more findings\n", r.More)
	}
	if r.Checkpoint.Origin == "" {
		return
	}
	fmt.Fprintf(out, "checkpoint   %s, %d entries, root %v\n", r.Checkpoint.Origin, r.Checkpoint.Size, r.Checkpoint.Root)
	fmt.Fprintf(out, "signed by    %s+%08x\n", key.Name(), key.KeyHash())
	if r.Saved != nil {
		fmt.Fprintf(out, "saved        %d entries, root %v\n", r.Saved.Size, r.Saved.Root)
	}
	for _, w := range r.Witnessed {
		fmt.Fprintf(out, "witnessed    by %s+%s, %d entries, at %s by its clock\n", w.Name, w.KeyHash, w.Checkpoint.Size, w.Time.Format(time.RFC3339))
	}
	if !r.Held() {
		fmt.Fprintf(out, "read         %d entries as they were sealed, %d tiles, in %v\n", r.Entries, r.Tiles, took.Round(time.Millisecond))
		return
	}
	for _, held := range heldChecks(r) {
		fmt.Fprintf(out, "held         %s\n", held)
	}
	for _, not := range r.Unchecked {
		fmt.Fprintf(out, "NOT CHECKED  %s\n", not)
	}
	switch {
	case len(r.Unchecked) == 0:
	case r.Saved == nil:
		fmt.Fprintln(out, "             A checkpoint saved before, elsewhere, checks these: --checkpoint SAVED. Save today's for the next time.")
	default:
		fmt.Fprintln(out, "             A newer checkpoint, saved elsewhere or signed by a witness, checks more. Save today's for the next time.")
	}
	fmt.Fprintf(out, "read         %d entries, %d tiles, in %v\n", r.Entries, r.Tiles, took.Round(time.Millisecond))
}

func heldChecks(r *verifier.Report) []string {
	held := []string{
		"the checkpoint is signed by the log's key",
		"every entry has its leaf hash, every tile its place, and the tree the checkpoint's root: none was changed, deleted, inserted, moved",
		"every entry is in its canonical encoding",
		"no entry is dated more than a minute before an earlier one",
	}
	if r.Saved != nil {
		held = append(held, fmt.Sprintf("the log begins with the %d entries of the saved checkpoint: not cut, not rewritten, no fork of it", r.Saved.Size))
	}
	for _, w := range r.Witnessed {
		held = append(held, fmt.Sprintf("the log begins with the %d entries that the witness %s signed, who signs only what goes on from what he signed: "+
			"not rewritten, and no fork of it signed by him", w.Checkpoint.Size, w.Name))
	}
	return held
}

type auditProveCmd struct {
	Index       uint64 `arg:"" help:"Index of the entry: auditIndex of an answer."`
	auditFolder `embed:""`
	Out         string `help:"File to write, which must not be there; ends in .tlog-proof by custom." required:"" type:"path"`
}

// Run takes the proof from the tiles, or from a signer, checks it, and writes it.
func (c *auditProveCmd) Run(ctx context.Context) error {
	log, err := c.log()
	if err != nil {
		return err
	}
	var proof *verifier.Proof
	if c.Server == "" {
		proof, err = verifier.Prove(log.Folder, log.Key, c.Index)
	} else if proof, err = c.prove(ctx, c.Index); err == nil {
		_, _, err = proof.Check(log.Key)
	}
	if err != nil {
		return err
	}
	file, err := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(proof.String())
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	fmt.Printf("entry %d, %d hashes and the checkpoint: %s\n", proof.Index, len(proof.Hashes), c.Out)
	return nil
}

type auditCheckProofCmd struct {
	File    string `arg:"" help:"The proof." type:"existingfile"`
	keyFlag `embed:""`
}

// Run verifies a proof and prints the entry.
func (c *auditCheckProofCmd) Run() error {
	key, err := c.verifier()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	proof, err := verifier.ParseProof(string(text))
	if err != nil {
		return err
	}
	_, checkpoint, err := proof.Check(key)
	if err != nil {
		return err
	}
	fmt.Printf("%s\nheld         it is entry %d of %d of the log %s, as its key signed\n", printable(string(proof.Entry)), proof.Index, checkpoint.Size, checkpoint.Origin)
	fmt.Println("NOT CHECKED  that others are shown the same log: compare the checkpoint with one that was saved elsewhere")
	return nil
}
