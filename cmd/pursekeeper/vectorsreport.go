package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/testvectors"
	"github.com/pursekeeper/pursekeeper/testvectors/conformance"
)

// vectorsOrigin is the name of the key of a throw-away token.
const vectorsOrigin = "pursekeeper/throw-away"

// checkReports refuses report files that cannot be written, before anything is run.
func checkReports(c vectorsReplayCmd) error {
	if len(c.Report) > 0 && c.Target == vectorsInMemory {
		return errors.New("report: a report is signed by a token: it has no use with --target=memory")
	}
	for _, name := range c.Report {
		if ext := filepath.Ext(name); ext != ".html" && ext != ".json" {
			return fmt.Errorf("report %s: expected a name that ends in .html or .json", name)
		}
		if _, err := os.Lstat(name); err == nil {
			return fmt.Errorf("report %s: %w", name, fs.ErrExist)
		}
	}
	return nil
}

// writeReports signs what was replayed by a key of the token, and writes it.
func writeReports(ctx context.Context, out io.Writer, c vectorsReplayCmd, token *hsm.Token, profile hsm.Profile, files []testvectors.File, r testvectors.Report) error {
	report, err := conformanceOf(ctx, token, profile, files, r)
	if err != nil {
		return err
	}
	report.Token.ThrowAway = c.Config == ""
	key, err := reportKey(ctx, c.Config, token)
	if err != nil {
		return fmt.Errorf("key of the report: %w", err)
	}
	signed, err := conformance.Sign(report, key)
	if err != nil {
		return err
	}
	for _, name := range c.Report {
		form := signed.JSON
		if filepath.Ext(name) == ".html" {
			form = signed.Page
		}
		text, err := form()
		if err == nil {
			err = writeNew(name, text)
		}
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
		if _, err := fmt.Fprintf(out, "report %s, signed by %s (key in %s)\n", name, key.text, key.where); err != nil {
			return err
		}
	}
	return nil
}

// reportKey is the key of the checkpoints of the configured token, or of a throw-away token a key that goes with it.
func reportKey(ctx context.Context, configFile string, token *hsm.Token) (*checkpointKey, error) {
	origin, directory, development := vectorsOrigin, "", false
	if configFile != "" {
		cfg, err := config.Read(configFile)
		if err != nil {
			return nil, err
		}
		origin, directory, development = cfg.Audit.Origin, cfg.Audit.Directory, cfg.Token.Development
	}
	key, err := tokenSigningKey(ctx, token, origin)
	if errors.Is(err, keyderive.ErrUnsupported) && development {
		key, err = softwareCheckpointKey(directory+".key", origin)
	}
	if err != nil || directory == "" {
		return key, err
	}
	had, err := tiles.ReadKey(directory + ".pub")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return key, nil // the signer has not started yet
	case err != nil:
		return nil, err
	case had.Name() != key.Name() || had.KeyHash() != key.KeyHash():
		return nil, fmt.Errorf("the token's key is %s, and %s.pub says another", key.text, directory)
	}
	return key, nil
}

// conformanceOf puts together what a report says.
func conformanceOf(ctx context.Context, token *hsm.Token, profile hsm.Profile, files []testvectors.File, r testvectors.Report) (conformance.Report, error) {
	d, err := token.Describe(ctx)
	if err != nil {
		return conformance.Report{}, err
	}
	report := conformance.Report{Time: time.Now(), Program: builtProgram(), Token: &conformance.Token{
		Label: d.Label, Manufacturer: d.Manufacturer, Model: d.Model, Serial: d.Serial, Hardware: d.Hardware, Firmware: d.Firmware, Slot: d.Slot,
		Library: d.Library, LibraryMaker: d.LibraryMaker, LibraryVersion: d.LibraryVersion, Cryptoki: d.Cryptoki,
		Profile: profile.Name, ProfileTested: profile.Tested,
	}}
	for _, m := range d.Mechanisms {
		report.Mechanisms = append(report.Mechanisms, conformance.Mechanism(m))
	}
	for _, kind := range keyderive.Kinds() {
		for alg := suite.TDES; alg.Valid(); alg++ {
			report.Boundaries = append(report.Boundaries, conformance.Boundary{
				Algorithm: alg.String(), Kind: kind.String(), Boundary: token.Strictest(kind, alg).String(),
			})
		}
	}
	for _, f := range files {
		report.Files = append(report.Files, conformance.File{Name: f.Name, SHA256: hex.EncodeToString(f.SHA256[:]), Vectors: len(f.Vectors)})
	}
	for _, row := range r.Rows {
		report.Operations = append(report.Operations, conformance.Operation{
			Operation: string(row.Operation), Algorithm: row.Algorithm.String(), Target: row.Target, Vectors: row.Vectors, Counts: countsOf(row),
		})
	}
	for _, v := range r.Vectors {
		report.Vectors = append(report.Vectors, conformance.Vector{
			ID: v.ID, File: v.File, Source: v.Source, Operation: string(v.Operation), Algorithm: v.Algorithm.String(), Target: v.Target,
			Counts: countsOf(v.Row),
		})
	}
	for _, f := range r.Failures {
		report.Failures = append(report.Failures, conformance.Failure{
			ID: f.ID, Target: f.Target, Value: string(f.Value), Problem: f.Problem, Want: fmt.Sprintf("%X", f.Want), Got: fmt.Sprintf("%X", f.Got),
		})
	}
	return report, nil
}

func countsOf(row testvectors.Row) conformance.Counts {
	return conformance.Counts{Compared: row.Compared, ByEffect: row.ByEffect, Refused: row.Refused, Failed: row.Failed}
}

type vectorsCheckReportCmd struct {
	File    string `arg:"" help:"The report: out.html or out.json." type:"existingfile"`
	keyFlag `embed:""`
}

// Run verifies a report offline, and of a page that it shows what was signed. Its status is 0 only when that is so and all vectors held.
func (c *vectorsCheckReportCmd) Run() error {
	key, err := c.verifier()
	if err != nil {
		return err
	}
	content, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	report, err := conformance.Open(content, key)
	if err != nil {
		return err
	}
	return printChecked(os.Stdout, report, key)
}

func printChecked(out io.Writer, r conformance.Report, key note.Verifier) error {
	fmt.Fprintf(out, "signed by    %s+%08x\n", key.Name(), key.KeyHash())
	fmt.Fprintf(out, "replayed     %s by pursekeeper %s, %s\n", r.Time.Format(time.RFC3339), printable(r.Program.Version), printable(r.Program.Go))
	if t := r.Token; t != nil {
		fmt.Fprintf(out, "token        %s, %s %s, serial %s, firmware %s, library %s\n", printable(t.Label), printable(t.Manufacturer), printable(t.Model),
			printable(t.Serial), printable(t.Firmware), printable(t.LibraryVersion))
		if t.ThrowAway {
			fmt.Fprintln(out, "             a throw-away token: its key says no more than that one program made the report")
		}
	}
	for _, f := range r.Files {
		fmt.Fprintf(out, "file         %s  %s, %d vectors\n", f.SHA256, printable(f.Name), f.Vectors)
	}
	total := r.Total()
	fmt.Fprintf(out, "result       %d values: %d compared, %d by their effect, %d refused as expected, %d failed\n", total.Values(), total.Compared,
		total.ByEffect, total.Refused, total.Failed)
	if !r.Holds() {
		return errVectors
	}
	return nil
}
