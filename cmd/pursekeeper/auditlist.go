package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
)

// auditFolder is a sealed log to read (verifier.Log), or a signer that shows its own.
type auditFolder struct {
	Dir         string `help:"Folder of the sealed log." default:".pursekeeper/audit" type:"path"`
	Key         string `help:"The log's verifier key, or its file. Left out: DIR.pub."`
	auditRemote `embed:""`
}

// log opens the folder.
func (f auditFolder) log() (verifier.Log, error) {
	if f.Key == "" {
		f.Key = strings.TrimRight(f.Dir, "/") + ".pub"
	}
	key, err := keyFlag{f.Key}.verifier()
	return verifier.Log{Folder: tiles.Folder(f.Dir), Key: key}, err
}

// each calls yield with the entries that are under the checkpoint and that the filter chooses, until it returns an error.
func (f auditFolder) each(ctx context.Context, filter auditFilter, yield func(index uint64, line []byte, e audit.Entry) error) error {
	if f.Server != "" {
		return f.list(ctx, filter, yield)
	}
	log, err := f.log()
	if err != nil {
		return err
	}
	_, checkpoint, err := log.Checkpoint()
	if err != nil {
		return err
	}
	query := filter.query()
	return log.Each(ctx, filter.From, checkpoint.Size, func(index uint64, line []byte, e audit.Entry) error {
		if !query.Matches(e) {
			return nil
		}
		return yield(index, line, e)
	})
}

// auditFilter chooses entries.
type auditFilter struct {
	From      uint64    `help:"Index to begin at." placeholder:"INDEX"`
	Set       string    `help:"Key set."`
	Card      string    `help:"Card: its 16 digits, or the last of them."`
	Terminal  string    `help:"Terminal number."`
	Client    string    `help:"Client, as the configuration names it."`
	WithKey   string    `help:"Key that was used: SET/KIND/VERSION, or SET/KIND." placeholder:"KEY"`
	Operation string    `help:"Operation or event, such as AuthorizeLoad."`
	Outcome   string    `help:"Outcome, such as APPROVED."`
	Since     time.Time `help:"Entries of this time and later, RFC 3339." format:"2006-01-02T15:04:05Z07:00"`
	Until     time.Time `help:"Entries before this time." format:"2006-01-02T15:04:05Z07:00"`
	Limit     uint64    `help:"Stop after so many; 0 for all." default:"0"`
}

var errEnough = errors.New("enough")

func (f auditFilter) query() audit.Query {
	return audit.Query{KeySet: f.Set, Card: f.Card, Terminal: f.Terminal, Client: f.Client, Key: f.WithKey, Event: audit.Event(f.Operation),
		Outcome: f.Outcome, Since: f.Since, Until: f.Until}
}

// each calls yield with what the filter chooses, as many as it says.
func (f auditFilter) each(ctx context.Context, folder auditFolder, yield func(uint64, []byte, audit.Entry) error) error {
	found := uint64(0)
	err := folder.each(ctx, f, func(index uint64, line []byte, e audit.Entry) error {
		if err := yield(index, line, e); err != nil {
			return err
		}
		if found++; found == f.Limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

type auditListCmd struct {
	auditFolder `embed:""`
	auditFilter `embed:""`
}

// Run prints a line for each entry.
func (c *auditListCmd) Run(ctx context.Context) error {
	return c.auditFilter.each(ctx, c.auditFolder, func(index uint64, _ []byte, e audit.Entry) error {
		_, err := fmt.Printf("%8d  %s  %-20s %-16s %s\n", index, e.Time.Format(time.RFC3339), printable(string(e.Event)), printable(e.Outcome), printable(about(e)))
		return err
	})
}

// about is what an entry is about, in a few words.
func about(e audit.Entry) string {
	var words []string
	add := func(format, value string) {
		if value != "" {
			words = append(words, fmt.Sprintf(format, value))
		}
	}
	switch {
	case e.Transaction != "":
		add("%s", e.Transaction)
	case e.Card != "":
		add("%s", strings.TrimSuffix(e.KeySet+"/"+e.Card+"/"+e.Purse, "/"))
	case e.Key != nil:
		add("%s", e.Key.String())
	default:
		add("%s", e.KeySet)
	}
	if e.Inputs.AmountFen != 0 {
		words = append(words, fmt.Sprintf("%d.%02d yuan", e.Inputs.AmountFen/100, e.Inputs.AmountFen%100))
	}
	add("terminal %s", e.Inputs.Terminal)
	add("by %s", e.Client)
	return strings.Join(words, "  ")
}

// printable leaves out what would move a terminal's cursor: an entry's texts may be a client's.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7F && r < 0xA0 {
			return '?'
		}
		return r
	}, text)
}

type auditShowCmd struct {
	auditFolder `embed:""`
	Index       *uint64 `arg:"" optional:"" help:"Index of an entry."`
	Card        string  `help:"A card instead: its life on one page, by its 16 digits or the last of them."`
	Set         string  `help:"Key set of the card."`
}

// Run prints one entry in full, or all of a card.
func (c *auditShowCmd) Run(ctx context.Context) error {
	if (c.Index == nil) == (c.Card == "") {
		return errors.New("show an index, or --card")
	}
	if c.Card != "" {
		return c.life(ctx, os.Stdout)
	}
	line, err := c.entry(ctx, *c.Index)
	if err != nil {
		return err
	}
	var pretty strings.Builder
	encoder := json.NewEncoder(&pretty)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(json.RawMessage(line)); err != nil {
		return err
	}
	fmt.Printf("entry %d\n", *c.Index)
	for shown := range strings.Lines(pretty.String()) {
		fmt.Println(printable(strings.TrimSuffix(shown, "\n")))
	}
	return nil
}

// entry finds one entry.
func (f auditFolder) entry(ctx context.Context, index uint64) (entry []byte, err error) {
	if f.Server != "" {
		return f.read(ctx, index)
	}
	err = f.each(ctx, auditFilter{From: index}, func(_ uint64, line []byte, _ audit.Entry) error {
		entry = line
		return errEnough
	})
	if err == nil {
		err = fmt.Errorf("entry %d is not sealed", index)
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return entry, err
}

// life is a card's page: what was asked of it, in order, with what each answer proved of what was before.
func (c *auditShowCmd) life(ctx context.Context, out io.Writer) error {
	filter := auditFilter{Card: c.Card, Set: c.Set}
	cards := map[string]bool{}
	err := filter.each(ctx, c.auditFolder, func(index uint64, _ []byte, e audit.Entry) error {
		if name := e.KeySet + "/" + e.Card; !cards[name] {
			cards[name] = true
			fmt.Fprintf(out, "card %s of key set %s\n", printable(e.Card), printable(e.KeySet))
		}
		fmt.Fprintf(out, "%8d  %s  %-20s %-16s %s\n", index, e.Time.Format(time.RFC3339), printable(string(e.Event)), printable(e.Outcome), printable(about(e)))
		if e.Detail != "" {
			fmt.Fprintf(out, "          %s\n", printable(e.Detail))
		}
		for _, s := range e.Settled {
			fmt.Fprintf(out, "          proved: %s %s, by %s\n", printable(s.Transaction), printable(s.Outcome), printable(s.Evidence))
		}
		return nil
	})
	if err == nil && len(cards) == 0 {
		err = fmt.Errorf("no entry of a card %s", c.Card)
	}
	return err
}

type auditExportCmd struct {
	auditFolder `embed:""`
	auditFilter `embed:""`
	Format      string `help:"jsonl (the entries in full) or csv (their main fields)." enum:"jsonl,csv" default:"jsonl"`
}

var csvColumns = []string{"index", "time", "event", "outcome", "client", "role", "keySet", "card", "purse", "transaction", "key", "kcv", "boundary",
	"amountFen", "terminal", "date", "cardTime", "detail"}

// Run writes to standard output.
func (c *auditExportCmd) Run(ctx context.Context) error {
	if c.Format == "jsonl" && c.Server != "" && c.Limit == 0 {
		return c.export(ctx, c.auditFilter, os.Stdout)
	}
	if c.Format == "jsonl" {
		return c.auditFilter.each(ctx, c.auditFolder, func(index uint64, line []byte, _ audit.Entry) error {
			_, err := fmt.Printf("{\"index\":%d,\"entry\":%s}\n", index, line)
			return err
		})
	}
	w := csv.NewWriter(os.Stdout)
	if err := w.Write(csvColumns); err != nil {
		return err
	}
	err := c.auditFilter.each(ctx, c.auditFolder, func(index uint64, _ []byte, e audit.Entry) error { return w.Write(csvRow(index, e)) })
	w.Flush()
	return errors.Join(err, w.Error())
}

func csvRow(index uint64, e audit.Entry) []string {
	key, kcv := "", ""
	if e.Key != nil {
		key, kcv = e.Key.String(), e.Key.KCV
	}
	row := []string{fmt.Sprint(index), e.Time.Format(time.RFC3339Nano), string(e.Event), e.Outcome, e.Client, string(e.Role), e.KeySet, e.Card, e.Purse,
		e.Transaction, key, kcv, e.Boundary, fmt.Sprint(e.Inputs.AmountFen), e.Inputs.Terminal, e.Inputs.Date, e.Inputs.Time, e.Detail}
	for i, field := range row {
		if field != "" && strings.ContainsRune("=+-@\t\r", rune(field[0])) {
			row[i] = "'" + field // a spreadsheet would compute it, and it may be a client's text
		}
	}
	return row
}
