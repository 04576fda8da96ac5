package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/ceremony"
	"github.com/pursekeeper/pursekeeper/store"
)

// ceremonyCmd is what several persons do with a key in one room.
type ceremonyCmd struct {
	Check ceremonyCheckCmd `cmd:"" help:"Read a ceremony's file, and compare it with the approved change. Touches no key and no token."`
	Run   ceremonyRunCmd   `cmd:"" help:"Hold the ceremony at this terminal."`
}

type ceremonyCheckCmd struct {
	File   string `arg:"" help:"The ceremony's file." type:"existingfile"`
	Config string `help:"Configuration file of the signer, whose store has the change." type:"existingfile"`
}

// Run says what the ceremony will do, and whether it is what was approved.
func (c *ceremonyCheckCmd) Run(ctx context.Context) error {
	plan, err := ceremony.Read(c.File)
	if err != nil {
		return err
	}
	if err := absent(plan.Record); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	fmt.Printf("%s of %s\n", plan.Kind, plan.Subject())
	switch {
	case plan.Change == "":
		fmt.Println("it needs no change: it makes components, and no key of this token")
		return nil
	case c.Config == "":
		fmt.Println("the file is valid; with --config it is compared with the change")
		return nil
	}
	papers, err := openPapers(ctx, c.Config)
	if err != nil {
		return err
	}
	defer func() { _ = papers.store.Close() }() // it was read alone
	if _, err := papers.approved(ctx, plan); err != nil {
		return err
	}
	fmt.Printf("it is what change %s says, and that is approved\n", plan.Change)
	return nil
}

// warrant is an approved change that a ceremony executes.
type warrant struct {
	change    custody.Change
	catalogue custody.Catalogue
	approvals []store.Approval
}

// approved finds the plan's change, with its quorum, as it may be executed now; and holds the plan against it.
func (p *papers) approved(ctx context.Context, plan *ceremony.Plan) (w warrant, err error) {
	office, err := p.office()
	if err != nil {
		return w, err
	}
	if w.change, w.catalogue, err = office.Ready(ctx, plan.Change); err != nil {
		return w, err
	}
	request, _, err := office.Request(ctx, plan.Change)
	if err != nil {
		return w, err
	}
	w.approvals = request.Approvals
	return w, plan.Match(w.change, w.catalogue)
}

// heldBy is who executes changes in the record: no officer, for it decides nothing.
const heldBy = "ceremony"

func (p *papers) office() (*custody.Office, error) {
	return custody.NewOffice(custody.Options{Store: p.store, Node: heldBy, IssuerLevels: issuerLevels})
}

// complete gives the catalogue what the ceremony made, and answers its revision. undone is that the change was refused, so that what was made is
// to be destroyed; where it is not known whether the change is durable, what was made stays.
func (p *papers) complete(ctx context.Context, w warrant, made custody.Made, detail string) (revision uint64, undone bool, err error) {
	office, err := p.office()
	if err != nil {
		return 0, true, err
	}
	if _, err = office.Complete(ctx, custody.Caller{Client: heldBy}, w.change.ID, made, detail); err != nil {
		return 0, custody.Reason(err) != "", err
	}
	catalogue, err := office.Catalogue(ctx)
	return catalogue.Revision, false, err
}

type ceremonyRunCmd struct {
	File       string `arg:"" help:"The ceremony's file." type:"existingfile"`
	Config     string `help:"Configuration file of the signer. make-components needs none." type:"existingfile"`
	shareFlags `embed:""`
}

// Run holds the ceremony and writes its record.
func (c *ceremonyRunCmd) Run(ctx context.Context) (err error) {
	plan, err := ceremony.Read(c.File)
	if err != nil {
		return err
	}
	if err := absent(plan.Record); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	act, known := acts[plan.Kind]
	if !known && plan.Kind != ceremony.MakeComponents {
		return fmt.Errorf("%s is not built yet", plan.Kind)
	}
	if known && c.Config == "" {
		return errors.New("--config: missing")
	}
	if err := harden(); err != nil {
		return err
	}
	screen, err := openConsole()
	if err != nil {
		return err
	}
	record := ceremony.Record{Plan: plan, Program: programVersion()}
	if !known {
		record.Outcome = "components were made; the key itself was kept nowhere"
		record.Whole, err = ceremony.Make(ctx, screen, plan, rand.Reader)
	} else {
		err = c.execute(ctx, screen, act, &record)
	}
	switch {
	case errors.Is(err, errUnknownEnd), errors.Is(err, errNotReleased):
		return err
	case err != nil:
		return fmt.Errorf("the ceremony ended and changed nothing: %w", err)
	}
	record.At = time.Now()
	return publish(screen, record)
}

// publish shows the record, and writes it. What it is about is done: an error says so.
func publish(screen *console, record ceremony.Record) error {
	var text strings.Builder
	if err := record.Write(&text); err != nil {
		return err
	}
	shown := screen.Show("\n" + text.String())
	if err := errors.Join(shown, writeNew(record.Plan.Record, []byte(text.String()))); err != nil {
		return fmt.Errorf("the ceremony is done, and its record could not be written: %w", err)
	}
	return screen.Show("\nwritten to " + record.Plan.Record + "\n")
}

// execute holds a ceremony that executes a change.
func (c *ceremonyRunCmd) execute(ctx context.Context, screen *console, act act, record *ceremony.Record) (err error) {
	room, err := openStrongroom(ctx, c.Config)
	if err != nil {
		return err
	}
	defer func() {
		if closed := room.close(); closed != nil {
			fmt.Fprintf(os.Stderr, "pursekeeper: %v\n", closed) // what was done is done
		}
	}()
	room.shares = c.shareFlags
	if err := room.holdAlone(ctx); err != nil {
		return err
	}
	w, err := room.approved(ctx, record.Plan)
	if err != nil {
		return err
	}
	made, undo, err := act(ctx, room, screen, w, record)
	if err != nil {
		return err
	}
	// Whoever has typed so far is not to be interrupted any more: what is in the token goes into the catalogue, or out of the token.
	ctx = context.WithoutCancel(ctx)
	revision, undone, err := room.complete(ctx, w, made, detail(record))
	switch {
	case undone:
		return errors.Join(err, undo(ctx))
	case err != nil:
		return fmt.Errorf("%w: `pursekeeper change show %s` tells; what the ceremony made is in the token still: %w", errUnknownEnd, w.change.ID, err)
	}
	if room.release != nil {
		if err := room.release(); err != nil {
			return fmt.Errorf("%w: %w", errNotReleased, err)
		}
	}
	if record.Plan.Kind == ceremony.CreateBackup {
		if err := room.retire(ctx, w.catalogue.Backup); err != nil {
			record.Details = append(record.Details, [2]string{"old key", "still in the token: " + err.Error()})
		}
	}
	record.Revision, record.Reason, record.Author, record.Token = revision, w.change.Reason, w.change.Author, room.config.Token.Label
	for _, a := range w.approvals {
		record.Approvals = append(record.Approvals, ceremony.Approval{Officer: a.Officer, Key: fingerprint(a.Key), At: a.At})
	}
	return nil
}

var (
	// errUnknownEnd: the store failed in the last step.
	errUnknownEnd = errors.New("it is not known whether the change was applied")
	// errNotReleased: the disk failed after it.
	errNotReleased = errors.New("the change is applied, and what was to leave was not written: another change is needed")
)

// detail is what the entry of the record says of a ceremony: who was there, and public check values.
func detail(record *ceremony.Record) string {
	text := "ceremony, by " + record.Program
	for i, v := range record.Whole.Components {
		text += fmt.Sprintf("; component %d of %s, check value %v", i+1, record.Plan.Custodians[i].Name, v)
	}
	if len(record.Plan.Present) > 0 {
		text += "; present: " + strings.Join(record.Plan.Present, ", ")
	}
	return text
}

func fingerprint(key string) string {
	public, err := custody.ParseOfficerKey(key)
	if err != nil {
		return "an unreadable key"
	}
	return ssh.FingerprintSHA256(public)
}
