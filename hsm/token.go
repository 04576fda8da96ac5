package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pursekeeper/pursekeeper/keyderive"
)

// State is what a Token is doing. The zero value is invalid.
type State uint8

// The states.
const (
	StateReady      State = iota + 1 // a generation takes traffic
	StateRecovering                  // the keeper tries to start one: callers get ErrUnavailable
	StateLatched                     // the PIN was refused: callers get ErrPINLatched until Unlatch
	StateRestart                     // the process must end with ExitRestart
	StateClosed                      // after Close
)

var stateNames = [...]string{StateReady: "ready", StateRecovering: "recovering", StateLatched: "pin-latched",
	StateRestart: "restart", StateClosed: "closed"}

// String is the name used in metrics, such as "pin-latched".
func (s State) String() string {
	if s >= StateReady && int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("invalid state %d", uint8(s))
}

// Token is one PKCS#11 token and its keys. Its methods may be called by several goroutines.
type Token struct {
	config Config
	log    *slog.Logger
	module *module // set by first, on the goroutine of Open

	current atomic.Pointer[generation] // nil while there is none that takes traffic
	last    atomic.Pointer[generation] // the one that began last
	number  atomic.Uint64              // of the current or last generation
	keeper  line                       // calls without a session, by the keeper alone
	ordered atomic.Bool                // the next login was ordered by Unlatch

	// Of whoever starts generations: Open's goroutine, then the keeper.
	pause  time.Duration  // before the next start (keeper.go)
	began  time.Time      // of the last start
	steady time.Duration  // longLife, but in tests
	doubts int            // doubtful answers to logins since one succeeded (login.go)
	blamed map[string]int // starts in a row that a key spoilt (entry.go)

	patience time.Duration // turnTime, but in tests

	life    context.Context // ends with Close
	stop    context.CancelFunc
	faults  chan *generation // from the generation that ended to the keeper
	unlatch chan struct{}
	kept    chan struct{} // closed when the keeper has ended
	closed  chan struct{} // closed when nothing uses the library any more
	done    chan struct{} // closed when the process must restart

	inFlight, hung                   atomic.Int64
	discarded                        atomic.Int64 // since the last initialize
	discards, writtenOff, recoveries atomic.Uint64

	mu    sync.Mutex // guards what follows
	state State
	cause error
	specs map[string]KeySpec
	found map[string]Exposure // by label
	// unfinished are the names of objects whose making was cut short: to be destroyed (making.go).
	unfinished map[string]ObjectID

	office chan struct{} // full while an officer's operation runs: one at a time

	endMu   sync.Mutex // one end at a time; guards ended
	ended   error      // of the end that was made
	watchMu sync.Mutex // guards watched, and generation.drained
	watched map[*session]*worker
}

// Open validates config, loads the module and starts the first generation. ctx bounds the wait for that; a call that never comes
// out of the library keeps the module owned to the end of the process.
//
// A key that is missing, doubled, too weak or not what its spec says does not fail Open: it fails closed, by name, in Key, Lend
// and Ready, as it would after a recovery. A refused PIN is the one error with which Open also returns a Token: it holds the
// latch, so that the service can stay up, unready, for an operator's Unlatch. A service that ended instead would be
// started again by its supervisor, and use up the PIN's tries.
func Open(ctx context.Context, config Config) (*Token, error) {
	config, err := config.validated()
	if err != nil {
		return nil, err
	}
	path, err := own(config.Module)
	if err != nil {
		return nil, err
	}
	t := newToken(config)
	go t.watchCalls()
	started := make(chan error, 1)
	go func() { started <- t.first(path) }()
	select {
	case err = <-started:
	case <-t.done:
		go t.endAfter(func() { <-started })
		return nil, t.Err()
	case <-ctx.Done():
		go t.endAfter(func() { <-started })
		return nil, fmt.Errorf("open token %q: %w", config.TokenLabel, ctx.Err())
	}
	if classOf(err) == classPIN {
		t.setState(StateLatched, err)
		go t.keepLatched(err)
		return t, t.unavailable()
	}
	if err != nil {
		err = fmt.Errorf("open token %q: %w", config.TokenLabel, err)
		return nil, errors.Join(err, t.end())
	}
	go t.keep()
	return t, nil
}

func newToken(config Config) *Token {
	t := &Token{
		config:     config,
		log:        config.Log.With("token", config.TokenLabel),
		faults:     make(chan *generation, 1),
		unlatch:    make(chan struct{}, 1),
		kept:       make(chan struct{}),
		closed:     make(chan struct{}),
		done:       make(chan struct{}),
		state:      StateRecovering,
		steady:     longLife,
		patience:   turnTime,
		blamed:     map[string]int{},
		specs:      map[string]KeySpec{},
		found:      map[string]Exposure{},
		office:     make(chan struct{}, 1),
		unfinished: map[string]ObjectID{},
		watched:    map[*session]*worker{},
	}
	t.life, t.stop = context.WithCancel(context.Background())
	t.keeper.hung = &t.hung
	for _, spec := range config.Keys {
		t.specs[spec.Label] = spec
	}
	return t
}

func (t *Token) newSession() *session { return &session{line: line{hung: &t.hung}, module: t.module} }

// keepLatched is keep for a token whose first login was refused.
func (t *Token) keepLatched(cause error) {
	if t.latch(cause) && t.recover(&generation{token: t, class: classDevice}) {
		t.keep()
		return
	}
	close(t.kept)
}

func (t *Token) setState(state State, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != StateClosed && t.state != StateRestart {
		t.state, t.cause = state, cause
	}
}

// lost tells the keeper that a generation ended.
func (t *Token) lost(g *generation) {
	t.setState(StateRecovering, g.cause)
	level := slog.LevelWarn
	if g.class == classNone { // it was asked to
		level = slog.LevelDebug
	}
	t.log.Log(context.Background(), level, "token generation ended",
		"generation", g.number, "class", g.class.String(), "error", g.cause)
	select {
	case t.faults <- g:
	default: // one generation lives at a time: the keeper has not been told of it before only when it is being closed
	}
}

// exit turns the token unready for good and asks for the end of the process (rule 7).
func (t *Token) exit(cause error) {
	t.setState(StateRestart, fmt.Errorf("%w: %w", ErrRestart, cause))
	g := t.current.Swap(nil) // nobody finds it ready once Done is closed
	t.mu.Lock()
	if t.state == StateRestart && !closed(t.done) {
		t.log.Error("the process must restart", "error", cause)
		close(t.done)
	}
	t.mu.Unlock()
	if g != nil {
		g.fail(classDevice, cause) // who waits is refused; the keeper starts no other
	}
}

// Done is closed when the process must end with ExitRestart for its supervisor to start it anew; only main ends it.
func (t *Token) Done() <-chan struct{} { return t.done }

// Err is nil until Done is closed, then why; it wraps ErrRestart.
func (t *Token) Err() error {
	if !closed(t.done) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cause
}

// Unlatch is an operator's act: the PIN is in order again, and one login may be tried (rule 5). It reports whether the token was
// latched.
func (t *Token) Unlatch() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != StateLatched {
		return false
	}
	select {
	case t.unlatch <- struct{}{}:
	default:
	}
	return true
}

// unavailable is what callers get while no generation takes traffic.
func (t *Token) unavailable() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.state {
	case StateClosed:
		return ErrClosed
	case StateLatched:
		return fmt.Errorf("%w: %w", ErrPINLatched, t.cause)
	case StateReady, StateRecovering, StateRestart:
	}
	if t.cause == nil {
		return ErrUnavailable
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, t.cause)
}

func (t *Token) generation() (*generation, error) {
	if g := t.current.Load(); g != nil {
		return g, nil
	}
	return nil, t.unavailable()
}

func (t *Token) catalogue() []KeySpec {
	t.mu.Lock()
	defer t.mu.Unlock()
	specs := make([]KeySpec, 0, len(t.specs))
	for _, spec := range t.specs {
		specs = append(specs, spec)
	}
	return specs
}

// Close takes no new callers, lets those that wait or run come to their end for at most the hang limit, logs out and finalizes.
// A call that hangs keeps the library from being finalized: that is the error, after another hang limit at most. The library is then
// left as it is until the call comes out, and the module stays owned.
func (t *Token) Close() error {
	g := t.current.Swap(nil)
	t.setState(StateClosed, nil)
	if g != nil {
		idle := func() bool { return g.jobs.waiting() == 0 && g.admin.waiting() == 0 && t.inFlight.Load() == 0 }
		for deadline := time.Now().Add(t.config.Hang); !idle() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	t.stop()
	limit := time.NewTimer(t.config.Hang + grace) // of the keeper, which may be draining
	defer limit.Stop()
	select {
	case <-t.kept:
		return t.end()
	case <-limit.C:
		go t.endAfter(func() { <-t.kept })
		return fmt.Errorf("close token: a call of the recovery is inside the library, which is left as it is: %w", errWrittenOff)
	}
}

// endAfter ends a token whose Open or Close did not wait, when its call comes out of the library.
func (t *Token) endAfter(out func()) {
	t.stop()
	out()
	if err := t.end(); err != nil {
		t.log.Error("token not closed", "error", err)
	}
}

// end gives the module back when no generation can begin any more. A call that hangs inside the library keeps it from that.
func (t *Token) end() error {
	t.endMu.Lock()
	defer t.endMu.Unlock()
	t.stop()
	t.current.Store(nil) // the keeper may just have begun another
	if g := t.last.Load(); g != nil {
		g.fail(classNone, ErrClosed)
		t.drain(g)
	}
	if hung := t.hung.Load(); hung > 0 {
		return fmt.Errorf("close token: %d calls hang inside the library, which is left as it is", hung)
	}
	if closed(t.closed) {
		return t.ended
	}
	close(t.closed)
	if t.module == nil {
		return nil // it could not be loaded
	}
	t.ended = t.release()
	return t.ended
}

// release makes the last calls. They too may hang: their error is then the token's, and the module stays owned until they come out.
func (t *Token) release() error {
	out := make(chan error, 1)
	go func() {
		if g := t.last.Load(); g != nil {
			_ = t.module.ctx.Logout(g.anchor) // finalize does it too, and ends all sessions
		}
		out <- t.module.release()
	}()
	limit := time.NewTimer(t.config.Hang)
	defer limit.Stop()
	select {
	case err := <-out:
		if err != nil {
			return fmt.Errorf("close token: %w", err)
		}
		return nil
	case <-limit.C:
		return fmt.Errorf("close token: finalize: %w", errWrittenOff)
	}
}

// Ready computes the check value of every key in the token anew, as real a call as a transaction's, and names each key that
// fails.
func (t *Token) Ready(ctx context.Context) error {
	g, err := t.generation()
	if err != nil {
		return err
	}
	var errs error
	for _, spec := range t.catalogue() {
		e, err := g.entry(spec.Label)
		if err == nil {
			err = e.begin()
		}
		if err == nil {
			j := newJob(func(s *session) (result, fault error) {
				if err := e.check(s); err != nil {
					return publicError("check key "+e.spec.Label, err), err
				}
				return nil, nil
			})
			j.released = e.drop
			err = g.do(ctx, g.jobs, j)
		}
		if errors.Is(err, ErrKeyNotFound) && !t.configured(spec) {
			continue // destroyed since
		}
		errs = errors.Join(errs, err)
	}
	return errs
}

func (t *Token) configured(spec KeySpec) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.specs[spec.Label] == spec
}

var _ keyderive.Key = (*Key)(nil)
