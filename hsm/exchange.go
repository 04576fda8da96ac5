package hsm

import (
	"context"
	"fmt"
	"time"

	"github.com/pursekeeper/pursekeeper/keyderive"
)

// exchange is one online transaction for one crossing into the library. What it holds is public (keyderive.Exchange).
type exchange struct {
	entry         *entry
	parent        *parent // the key at the issuer levels
	card, session [16]byte
	proof, issue  []byte // padded
	got           keyderive.MAC
	issued        keyderive.MAC // written by the worker before the job is done
}

// Bounds of a crossing. A token that answers slowly gets one exchange at a time, so that those behind it wait for another session; one
// that answers at once gets as many as the time of a way through Go is small beside.
const (
	mostExchanges = 16
	crossingTime  = 2 * time.Millisecond  // of all exchanges of a crossing, by the pace of those before
	longCrossing  = 2 * crossingTime      // after which it begins no other: the token is slower than before
	turnTime      = 50 * time.Millisecond // that one session waits for the crossings of others, on a serial token
)

// Exchange implements keyderive.Exchanger at the TOKEN boundary: what Lend does step by step, in one crossing into the library, in which
// what waits behind it is answered too. Card and session keys are session objects of the token, made and destroyed in that crossing.
func (k *Key) Exchange(ctx context.Context, path keyderive.Path, x keyderive.Exchange) (keyderive.MAC, error) {
	g, err := k.token.generation()
	if err != nil {
		return keyderive.MAC{}, err
	}
	e, err := g.borrow(k.spec)
	if err != nil {
		return keyderive.MAC{}, err
	}
	defer e.drop()
	proof, issue := x.Padded(e.spec.Algorithm)
	if e.spec.Boundary != keyderive.BoundaryToken || max(len(proof), len(issue)) > longestText {
		return keyderive.MAC{}, fmt.Errorf("key %q: exchange at once: %w", e.spec.Label, keyderive.ErrUnsupported)
	}
	if err := e.checkLevels(path); err != nil {
		return keyderive.MAC{}, err
	}
	if err := mayBecome(&e.spec, depthCard, keyderive.ToDerive); err != nil {
		return keyderive.MAC{}, err
	}
	p, err := g.parent(ctx, e, path)
	if err != nil {
		return keyderive.MAC{}, err
	}
	j := newJob(nil)
	j.exchange = &exchange{entry: e, parent: p, proof: proof, issue: issue, got: x.Got}
	j.exchange.card, j.exchange.session = x.Inputs(e.spec.Algorithm)
	e.hold()
	j.released = func() { g.dropFor(e, p) } // p is held by this function
	if err := g.do(ctx, g.jobs, j); err != nil {
		return keyderive.MAC{}, err
	}
	return j.exchange.issued, nil
}

// answer works off first and what waits behind it. It is false when the worker must not go on.
func (w *worker) answer(first *job) bool {
	w.generation.token.inFlight.Add(1)
	w.takeTurn()
	defer w.endTurn()
	waiting := w.gather(first)
	defer w.current.Store(nil)
	for len(waiting) > 0 {
		if g := w.generation; closed(g.down) {
			w.refuse(waiting, g.unavailable())
			return false
		}
		n, fault := w.cross(waiting)
		waiting = waiting[n:]
		if fault == nil {
			continue
		}
		w.carry(waiting)
		if !w.settle(fault) { // the session is lost, or the generation
			w.refuse(waiting, publicError("use the token", fault))
			return false
		}
	}
	clear(w.batch) // keeps no answered job; the watcher reads a batch only when it was written off
	return true
}

// takeTurn waits, on a token that does one call at a time, until no other session is at exchanges: they would stand in each other's way
// inside its library. The wait is short: a turn saves time, and nothing rests on it.
func (w *worker) takeTurn() {
	g := w.generation
	if !g.token.config.Profile.Serial {
		return
	}
	select {
	case g.turn <- struct{}{}:
		w.turn.Store(true)
		return
	default:
	}
	limit := time.NewTimer(g.token.patience)
	defer limit.Stop()
	select {
	case g.turn <- struct{}{}:
		w.turn.Store(true)
	case <-limit.C:
	case <-g.down:
	}
}

// endTurn gives the turn back, if the worker has it: the worker itself, or the watcher that wrote its call off.
func (w *worker) endTurn() {
	if w.turn.CompareAndSwap(true, false) {
		<-w.generation.turn
	}
}

// gather takes the exchanges that wait behind first, as many as one crossing is to answer.
func (w *worker) gather(first *job) []*job {
	w.batch = append(w.batch[:0], first)
	for n := w.share(); len(w.batch) < n; {
		j := w.queue.takeExchange()
		if j == nil {
			break
		}
		if j.state.CompareAndSwap(jobQueued, jobRunning) {
			w.generation.token.inFlight.Add(1)
			w.batch = append(w.batch, j)
		}
	}
	return w.batch
}

// share is how many exchanges the next crossing is to answer.
func (w *worker) share() int {
	if w.pace <= 0 {
		return 1 // the first shows how fast the token is
	}
	config := &w.generation.token.config
	n := int(min(crossingTime/w.pace, mostExchanges))
	if !config.Profile.Serial {
		n = min(n, 1+w.queue.waiting()/config.InFlight) // the other sessions take theirs
	}
	return max(n, 1)
}

// carry tells the watcher who is to be answered, and that the turn is to be given back, when a call of this worker hangs: in a crossing,
// or where another session is opened for those behind a fault.
func (w *worker) carry(waiting []*job) {
	w.current.Store(&job{lost: func(err error) {
		w.endTurn()
		for _, j := range waiting {
			j.finish(err, nil)
		}
	}})
}

// refuse concludes those of which nothing was computed.
func (w *worker) refuse(waiting []*job, err error) {
	for _, j := range waiting {
		w.conclude(j, err)
	}
}

// conclude is the end of an exchange that a worker took.
func (w *worker) conclude(j *job, result error) {
	w.generation.token.inFlight.Add(-1)
	j.finish(result, nil)
	j.release()
}

// cross makes one crossing for a batch, and answers those that it touched. The error is the token's.
func (w *worker) cross(batch []*job) (answered int, fault error) {
	if w.crossing == nil {
		w.crossing = &crossing{}
	}
	for i, j := range batch {
		w.crossing.put(i, j.exchange)
	}
	w.carry(batch)
	begin := clock()
	touched, lost := w.session.exchange(w.crossing, len(batch))
	if lost != nil {
		for _, j := range batch {
			w.conclude(j, publicError("use the token", lost))
		}
		return len(batch), lost
	}
	w.pace = time.Duration(clock()-begin) / time.Duration(touched)
	var results [mostExchanges]error
	for i, j := range batch[:touched] {
		j.exchange.issued, results[i], fault = w.crossing.take(i)
	}
	w.judge(fault) // before anybody hears of it; it is the last one's, the others met none
	for i, j := range batch[:touched] {
		w.conclude(j, results[i])
	}
	return touched, fault
}
