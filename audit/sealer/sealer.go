// Package sealer turns the entries of the record, within a second of their commit, into the sealed log on disk (audit/tiles).
//
// # One round
//
//	lease      the database's row says who seals; a mark needs the newest fence
//	tiles      written beside their place, synchronised, renamed, the folders synchronised
//	check      the tiles on disk, read anew, prove that the new tree begins with that of the last checkpoint
//	sign       the checkpoint, by a key of the token
//	mark       size and signed checkpoint in the database, where the fence is compared
//	publish    the checkpoint's file
//
// The order makes a crash harmless anywhere. Tiles without a checkpoint are computed again from the entries, and must be the same
// bytes. A checkpoint that is marked and not published is published by whoever seals next, after it has computed the tree
// to that size and come to its root: so a folder that was lost, or a node's own that lags, catches up from the database.
//
// # What it refuses
//
// It signs nothing, alarms, and tries again every second when the log is ahead of the database's mark (a database that was
// set back), when the log's checkpoint is of another key, when the right edge of the tiles has another root than the checkpoint, when a tile is
// there with another content, and when an entry of the database is not the one that was sealed: the newest are compared whenever it
// begins, and all of them once after each start, in the time that traffic leaves.
package sealer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// Record is the database as the sealer needs it; store implements it.
type Record interface {
	// Entries calls yield with each entry from an index on, in order, until it returns false.
	Entries(ctx context.Context, from uint64, yield func(index uint64, line []byte) bool) error
	// RecentEntries returns n entries from an index on when the database still has them in memory as they were committed, else nil. It may
	// forget those before.
	RecentEntries(from uint64, n int) [][]byte
	// Pruned is the index before which sealed entries may have been deleted.
	Pruned(ctx context.Context) (before uint64, err error)
	// Sealing returns how far the record is sealed, and how many entries it has.
	Sealing(ctx context.Context) (sealed audit.Sealed, entries uint64, err error)
	// TakeSealing takes or renews the lease, or returns audit.ErrLeaseHeld. A term of zero gives it back.
	TakeSealing(ctx context.Context, lease audit.Lease, now time.Time, term time.Duration) (audit.Lease, error)
	// MarkSealed marks durably how far the record is sealed, or returns audit.ErrFenced.
	MarkSealed(ctx context.Context, lease audit.Lease, sealed audit.Sealed) error
}

// Config is what a sealer works with. All fields but the times are needed.
type Config struct {
	Folder tiles.Folder
	Holder string // of the lease: the same after a restart, another for each node
	Record Record
	// Key returns the key of the checkpoints, whose name is the log's origin, and its verifier key. It is called until it succeeds.
	Key   func(ctx context.Context) (note.Signer, note.Verifier, error)
	Log   *slog.Logger
	Alarm func(audit.Event)
	// Published, when not nil, is told each checkpoint that is published, and the newest when the log is opened. It does not wait.
	Published func(signed string)

	Interval time.Duration // between rounds; three times as long from begin to begin while entries come fast; 0: 200 ms
	Term     time.Duration // of the lease; 0: 5 s
	// LastRounds is how long the sealer may go on when it is told to stop; 0: 5 s.
	LastRounds time.Duration
}

// ErrRefused is what every refusal to sign wraps.
var ErrRefused = errors.New("sealing is refused")

func refuse(format string, values ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, values...))
}

const (
	interval   = 200 * time.Millisecond
	afterError = time.Second
	term       = 5 * time.Second
	late       = 10 * time.Second // an entry that waits for longer is an alarm
	largest    = 64 * tiles.Width // entries of one round: their bytes are in memory
	lastRounds = 5 * time.Second
)

// Each round costs the disk some synchronised writes, which the database waits for too. So while entries come fast, rounds begin three
// intervals apart and seal more each: that is still within a second.
const (
	busyRound     = tiles.Width / 2 // entries of a round from which on they come fast
	busyIntervals = 3
)

// Status is how the sealing stands.
type Status struct {
	Holder  bool      // this node seals
	Sealed  uint64    // entries in the newest marked checkpoint
	Entries uint64    // of the record
	Oldest  time.Time // of the first entry that is not sealed; zero when all are
	Err     error     // why the last round failed
}

// Unsealed is the number of entries that wait.
func (s Status) Unsealed() uint64 { return s.Entries - min(s.Sealed, s.Entries) }

// Sealer seals. One goroutine calls Run; Status and Cosigned may be called by any.
type Sealer struct {
	config Config

	// Of Run's goroutine.
	signer  note.Signer
	key     note.Verifier
	unlock  func() error
	lease   audit.Lease
	renewed time.Time
	log     *log   // nil before it is opened, and after an error: then all is read anew
	busy    bool   // that entries come fast, by the last round
	suspect uint64 // a bundle to compare first: one that was not what was sealed

	publishing sync.Mutex // held while the checkpoint's file is replaced
	ended      bool       // guarded by publishing: the folder may be another's now

	reporting sync.Mutex // guards the two below, and is held while a new status is made
	reported  time.Time
	alarmed   bool // that it is late

	mu     sync.Mutex // guards status
	status Status
}

// New returns a sealer that has done nothing yet.
func New(config Config) *Sealer {
	if config.Interval == 0 {
		config.Interval = interval
	}
	if config.Term == 0 {
		config.Term = term
	}
	if config.LastRounds == 0 {
		config.LastRounds = lastRounds
	}
	return &Sealer{config: config, lease: audit.Lease{Holder: config.Holder}}
}

// Status returns how the sealing stands: after the last round, and what waits at most a second or two ago, however long a round takes.
func (s *Sealer) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// ErrEnded is the error of a signature that comes after the sealer gave its folder back.
var ErrEnded = errors.New("the sealer has ended")

// Cosigned adds a witness's signature line to the published checkpoint, when it still is the one that it is of. Any goroutine may call it;
// after Run it is ErrEnded.
func (s *Sealer) Cosigned(c tiles.Checkpoint, w *tiles.Witness, line string) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.ended {
		return ErrEnded
	}
	return s.config.Folder.AddCosignature(c, w, line)
}

func (s *Sealer) publish(signed string) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	return s.config.Folder.PublishCheckpoint(signed)
}

func (s *Sealer) tell(signed string) {
	if s.config.Published != nil && signed != "" {
		s.config.Published(signed)
	}
}

// Run seals until ctx ends, then seals what is there, and gives the lease back. It runs once.
func (s *Sealer) Run(ctx context.Context) {
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(ctx) })
	defer watching.Wait()
	for ctx.Err() == nil {
		began := time.Now()
		more, err := s.round(ctx)
		if ctx.Err() != nil {
			break
		}
		s.report(ctx, err)
		wait := s.config.Interval
		switch {
		case err != nil && !errors.Is(err, audit.ErrLeaseHeld):
			wait = afterError
		case more:
			continue
		case s.busy:
			wait = busyIntervals*s.config.Interval - time.Since(began)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.LastRounds)
	defer cancel()
	more, err := true, error(nil)
	for more && err == nil {
		more, err = s.round(last)
	}
	s.report(last, err)
	if err := s.end(last); err != nil {
		s.config.Log.Warn("the sealing lease was not given back", "error", err)
	}
}

// end gives back what the sealer holds.
func (s *Sealer) end(ctx context.Context) (err error) {
	if s.lease.Fence != 0 {
		_, err = s.config.Record.TakeSealing(ctx, s.lease, time.Now(), 0)
	}
	s.publishing.Lock()
	s.ended = true
	s.publishing.Unlock()
	if s.unlock != nil {
		err = errors.Join(err, s.unlock())
		s.unlock = nil
	}
	return err
}

// round seals once; more is true when entries wait already.
func (s *Sealer) round(ctx context.Context) (more bool, err error) {
	defer func() {
		if err != nil {
			s.log = nil
		}
	}()
	if err := s.hold(ctx); err != nil {
		return false, err
	}
	sealed, entries, err := s.config.Record.Sealing(ctx)
	if err != nil {
		return false, err
	}
	if s.log == nil {
		if s.log, err = s.open(ctx, sealed, entries); err != nil {
			return false, err
		}
		s.tell(s.log.signed)
	}
	s.busy = s.log.edge.Size()+busyRound <= entries
	if s.log.edge.Size() < entries {
		if err := s.seal(ctx, sealed, min(entries, s.log.edge.Size()+largest)); err != nil {
			return false, err
		}
	}
	if err := s.compareSome(ctx); err != nil {
		return false, err
	}
	return s.log.edge.Size() < entries, nil
}

// hold sees that this node has the key, the folder and the lease.
func (s *Sealer) hold(ctx context.Context) (err error) {
	if s.signer == nil {
		signer, key, err := s.config.Key(ctx)
		if err != nil {
			return fmt.Errorf("checkpoint key: %w", err)
		}
		s.signer, s.key = signer, key
	}
	if s.unlock == nil {
		if s.unlock, err = s.config.Folder.Lock(); err != nil {
			return err
		}
	}
	now := time.Now()
	if s.log != nil && now.Sub(s.renewed) < s.config.Term/3 {
		return nil
	}
	lease, err := s.config.Record.TakeSealing(ctx, s.lease, now, s.config.Term)
	if err != nil {
		return err
	}
	if lease != s.lease {
		s.log = nil // another may have sealed meanwhile
	}
	s.lease, s.renewed = lease, now
	return nil
}

// report keeps how a round ended, and says once what is new in it.
func (s *Sealer) report(ctx context.Context, err error) {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.reported = time.Now()
	before := s.Status()
	now := before
	now.Holder, now.Err = err == nil, err
	if errors.Is(err, audit.ErrLeaseHeld) {
		now.Err = nil // another node seals
	}
	if now.Err != nil && (before.Err == nil || before.Err.Error() != now.Err.Error()) {
		s.config.Log.Error("the record is not sealed", "error", now.Err)
		if errors.Is(now.Err, ErrRefused) {
			s.config.Alarm(audit.SealingRefused)
		}
	}
	s.count(ctx, now)
}

// count completes a status by what waits, says once that it waits for long, and keeps it. Its caller holds reporting.
func (s *Sealer) count(ctx context.Context, now Status) {
	if sealed, entries, err := s.config.Record.Sealing(ctx); err == nil {
		now.Sealed, now.Entries, now.Oldest = sealed.Size, entries, time.Time{}
		if now.Unsealed() > 0 {
			now.Oldest = s.dated(ctx, sealed.Size)
		}
	}
	isLate := !now.Oldest.IsZero() && time.Since(now.Oldest) > late
	if isLate && !s.alarmed {
		s.config.Log.Error("entries wait to be sealed", "entries", now.Unsealed(), "since", now.Oldest)
		s.config.Alarm(audit.SealingLate)
	}
	s.alarmed = isLate
	s.mu.Lock()
	s.status = now
	s.mu.Unlock()
}

// watched is how old a status may be before it is made anew without a round.
const watched = time.Second

// watch counts what waits while a round does not end, as on a disk that answers no more: whoever waits says nothing himself.
func (s *Sealer) watch(ctx context.Context) {
	tick := time.NewTicker(watched)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.reporting.Lock()
		if time.Since(s.reported) > watched {
			s.count(ctx, s.Status())
		}
		s.reporting.Unlock()
	}
}

// dated is the time of an entry; zero where it cannot be read.
func (s *Sealer) dated(ctx context.Context, index uint64) (at time.Time) {
	_ = s.config.Record.Entries(ctx, index, func(_ uint64, line []byte) bool {
		if e, err := audit.Decode(line); err == nil {
			at = e.Time
		}
		return false
	})
	return at
}
