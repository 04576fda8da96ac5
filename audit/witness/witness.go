package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// Witness is one that is configured.
type Witness struct {
	Name string // in logs and metrics; unique
	URL  string // the submission prefix
	Key  *tiles.Witness
	HTTP *http.Client // follows no redirect and has a timeout
}

// Config is what New needs; all fields but the times.
type Config struct {
	Folder    tiles.Folder
	Key       func(ctx context.Context) (note.Verifier, error) // the log's; it is asked until it succeeds
	Witnesses []Witness
	// Cosigned adds signature lines to the published checkpoint, when it still is the one that they are of.
	Cosigned func(c tiles.Checkpoint, w *tiles.Witness, lines string) error
	Log      *slog.Logger
	Alarm    func(audit.Event)

	Interval time.Duration // at least so long between two offers to one witness; 0: 5 s
	Late     time.Duration // an alarm when a witness has signed nothing for so long; 0: 5 min
	Again    time.Duration // after so long the newest is offered anew, for a newer date; 0: 1 h
}

const (
	interval = 5 * time.Second
	late     = 5 * time.Minute
	again    = time.Hour
)

// Status is how it stands with one witness.
type Status struct {
	Name    string
	Size    uint64    // of the newest checkpoint that he signed
	Waiting time.Time // since when a checkpoint waits for him; zero when he signed the newest
	Err     error     // why the last offer failed
}

// Offerer offers checkpoints: a goroutine for each witness, all in Run. Published and Statuses may be called by any goroutine.
type Offerer struct {
	config Config
	each   []*one
}

// one is one witness, and where it stands with him.
type one struct {
	Witness
	config *Config
	news   chan struct{} // holds one: a checkpoint was published
	known  uint64        // the size that he signed last, as far as Run's goroutine knows

	mu     sync.Mutex // guards all below
	newest string     // signed, to be offered
	status Status
	late   bool // that it was said
}

// New returns an offerer that has done nothing yet.
func New(config Config) *Offerer {
	if config.Interval == 0 {
		config.Interval = interval
	}
	if config.Late == 0 {
		config.Late = late
	}
	if config.Again == 0 {
		config.Again = again
	}
	o := &Offerer{config: config}
	for _, w := range config.Witnesses {
		o.each = append(o.each, &one{Witness: w, config: &o.config, news: make(chan struct{}, 1), status: Status{Name: w.Name}})
	}
	return o
}

// Published tells that a checkpoint was published. It does not wait.
func (o *Offerer) Published(signed string) {
	for _, w := range o.each {
		w.published(signed)
	}
}

func (w *one) published(signed string) {
	w.mu.Lock()
	w.newest = signed
	if w.status.Waiting.IsZero() {
		w.status.Waiting = time.Now()
	}
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default: // it will see the newest
	}
}

// Statuses returns how it stands with each witness.
func (o *Offerer) Statuses() []Status {
	all := make([]Status, len(o.each))
	for i, w := range o.each {
		w.mu.Lock()
		all[i] = w.status
		w.mu.Unlock()
	}
	return all
}

// Run offers what is published until ctx ends.
func (o *Offerer) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, w := range o.each {
		group.Go(func() { w.run(ctx) })
	}
	group.Wait()
}

func (w *one) run(ctx context.Context) {
	for {
		select {
		case <-w.news:
		case <-time.After(w.config.Again):
		case <-ctx.Done():
			return
		}
		w.mu.Lock()
		newest := w.newest
		w.mu.Unlock()
		if newest == "" {
			continue
		}
		err := w.offer(ctx, newest)
		if ctx.Err() != nil {
			return
		}
		w.done(newest, err)
		if err != nil {
			select {
			case w.news <- struct{}{}: // again, after the pause
			default:
			}
		}
		select {
		case <-time.After(w.config.Interval):
		case <-ctx.Done():
			return
		}
	}
}

// done keeps how an offer ended, and says once what is new in it.
func (w *one) done(offered string, err error) {
	w.mu.Lock()
	before := w.status.Err
	w.status.Size, w.status.Err = w.known, err
	if err == nil {
		w.status.Waiting = time.Time{}
		if w.newest != offered {
			w.status.Waiting = time.Now()
		}
	}
	waiting := w.status.Waiting
	isLate := !waiting.IsZero() && time.Since(waiting) > w.config.Late
	sayLate := isLate && !w.late
	w.late = isLate
	w.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		w.config.Log.Error("a witness did not sign the checkpoint", "witness", w.Name, "error", err)
		if errors.Is(err, ErrConflict) && !errors.Is(before, ErrConflict) {
			w.config.Alarm(audit.WitnessConflict)
		}
	}
	if sayLate {
		w.config.Log.Error("checkpoints wait for a witness", "witness", w.Name, "since", waiting)
		w.config.Alarm(audit.WitnessLate)
	}
}

// offer asks the witness for his signature of a checkpoint, and keeps it.
func (w *one) offer(ctx context.Context, signed string) error {
	key, err := w.config.Key(ctx)
	if err != nil {
		return err
	}
	c, err := tiles.OpenCheckpoint([]byte(signed), key)
	if err != nil {
		return err
	}
	if w.known == 0 {
		if w.known, err = w.kept(key); err != nil {
			return err
		}
	}
	if signed, err = tiles.Bare([]byte(signed), key); err != nil {
		return err
	}
	lines, err := w.ask(ctx, c, signed)
	if err != nil {
		return err
	}
	if _, _, err := tiles.OpenCosigned([]byte(signed+lines), key, w.Key); err != nil {
		return fmt.Errorf("what the witness answered: %w", err)
	}
	if err := w.config.Folder.PublishCosigned(w.Key, signed+lines); err != nil {
		return err
	}
	w.known = c.Size
	return w.config.Cosigned(c, w.Key, lines)
}

// kept is the size of the newest checkpoint that the folder has with the witness's signature; 0 where it has none.
func (w *one) kept(key note.Verifier) (uint64, error) {
	signed, err := w.config.Folder.Cosigned(w.Key)
	if err != nil || len(signed) == 0 {
		return 0, err
	}
	c, _, err := tiles.OpenCosigned(signed, key, w.Key)
	if err != nil {
		return 0, fmt.Errorf("%s, kept: %w", w.config.Folder, err)
	}
	return c.Size, nil
}
