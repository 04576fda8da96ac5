package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// batch is the card keys that callers want of one parent at the CARD boundary. All that wait when a worker comes are made by one
// C_Encrypt in ECB mode: a token answers a thousand blocks in little more time than two.
type batch struct {
	mu      sync.Mutex
	waiting []*request
	queued  bool // a job that will take some of them is in the queue
}

// maxBatch is how many card keys one call makes: 8 KiB of locked memory for each session.
const maxBatch = 512

// request is one card key that somebody waits for. The worker that fills key and the caller that leaves settle with state
// whose it is.
type request struct {
	data [suite.KeySize]byte
	key  secret.Bytes // set by the worker before done: in locked memory until the end of the Lend
	err  error
	done chan struct{}
	gone atomic.Bool // swapped to true by the first of: delivered, abandoned
}

// deliver hands the card key over, or wipes it when nobody waits. The copy comes before the swap: should locked memory run out, the
// request is still to be answered.
func (r *request) deliver(key []byte, err error) {
	var mine secret.Bytes
	if err == nil {
		mine = secret.Copy(key) // dies with the memoryLoan of the caller
	}
	if !r.gone.CompareAndSwap(false, true) {
		mine.Wipe()
		return
	}
	r.key, r.err = mine, err
	close(r.done)
}

// cardKey derives one card key from p: the ECB encryption of data, made in the token. The caller wipes it.
func (g *generation) cardKey(ctx context.Context, e *entry, p *parent, data [16]byte) (secret.Bytes, error) {
	r := &request{data: data, done: make(chan struct{})}
	p.batch.mu.Lock()
	if len(p.batch.waiting) >= g.token.config.Queue {
		p.batch.waiting = slices.DeleteFunc(p.batch.waiting, func(r *request) bool { return r.gone.Load() })
	}
	if len(p.batch.waiting) >= g.token.config.Queue {
		p.batch.mu.Unlock()
		return secret.Bytes{}, fmt.Errorf("%w: %d", ErrBusy, g.token.config.Queue)
	}
	p.batch.waiting = append(p.batch.waiting, r)
	call := !p.batch.queued // otherwise a job is in the queue that will take this one too
	p.batch.queued = true
	p.batch.mu.Unlock()
	if call {
		g.queueBatch(e, p)
	}
	var refused error
	select {
	case <-r.done:
		return r.key, r.err
	case <-ctx.Done():
		refused = ctx.Err()
	case <-g.down:
		refused = g.unavailable()
	}
	if r.gone.CompareAndSwap(false, true) {
		return secret.Bytes{}, refused
	}
	<-r.done
	return r.key, r.err
}

// queueBatch puts a job into the queue that makes what waits. Nobody waits for the job itself: it answers each request.
func (g *generation) queueBatch(e *entry, p *parent) {
	if err := g.postBatch(e, p); err != nil {
		answer(p.batch.take(maxAll), nil, err)
	}
}

func (g *generation) postBatch(e *entry, p *parent) error {
	var taken []*request // written before each call, read by the watcher when that call hangs
	j := newJob(func(s *session) (_, fault error) {
		defer func() {
			if panicked := recover(); panicked != nil { // nobody waits for the job: who waits for a card key hears of it here
				err := fmt.Errorf("%w: %v", errBatch, panicked)
				g.token.log.Error("card keys not made", "key", e.spec.Label, "error", err)
				answer(taken, nil, err)
				answer(p.batch.take(maxAll), nil, err)
			}
		}()
		for {
			taken = p.batch.take(maxBatch)
			if len(taken) == 0 {
				return nil, nil
			}
			more := p.batch.more()
			if more && g.postBatch(e, p) == nil {
				more = false // another worker helps
			}
			if fault = s.cardKeys(e, p, taken); fault != nil {
				answer(taken, nil, publicError("derive card keys", fault))
			}
			if fault != nil && more {
				answer(p.batch.take(maxAll), nil, publicError("derive card keys", fault))
			}
			if fault != nil || !more {
				return nil, fault
			}
		}
	})
	g.holdFor(e, p)
	j.released = func() { g.dropFor(e, p) }
	j.lost = func(err error) { answer(taken, nil, err) }
	if err := g.post(g.jobs, j); err != nil {
		j.release()
		return err
	}
	return nil
}

// errBatch says that card keys could not be made for a reason of this process, such as no more locked memory.
var errBatch = errors.New("derive card keys: the process failed")

const maxAll = int(^uint(0) >> 1)

// take takes up to n of those that wait. When it leaves none, the next to come queues a job of its own.
func (b *batch) take(n int) []*request {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, len(b.waiting))
	taken := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	b.queued = len(b.waiting) > 0
	return taken
}

func (b *batch) more() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) > 0
}

// answer delivers to each its part of keys, or err.
func answer(taken []*request, keys []byte, err error) {
	for i, r := range taken {
		if err != nil {
			r.deliver(nil, err)
			continue
		}
		r.deliver(keys[i*suite.KeySize:][:suite.KeySize], nil)
	}
}

// cardKeys makes the card keys that taken ask for in one call. They arrive in the session's locked memory, are copied into
// locked memory of each caller, and are cleared here before the session does anything else.
func (s *session) cardKeys(e *entry, p *parent, taken []*request) error {
	var factors [maxBatch * suite.KeySize]byte // what is encrypted: card numbers, no secret
	for i, r := range taken {
		copy(factors[i*suite.KeySize:], r.data[:])
	}
	n := len(taken) * suite.KeySize
	keys := s.batch.Reveal("to receive card keys from the token")[:n]
	defer clear(keys)
	if err := s.encrypt(e.dialect.ecb, p.key, nil, factors[:n], keys); err != nil {
		return err
	}
	answer(taken, keys, nil)
	return nil
}

// reserve takes the locked memory of a session that is to make card keys, before its first job: that there is none left is an error
// here, where secret.New panics.
func (s *session) reserve() (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("memory of a session: %v", panicked)
		}
	}()
	s.batch = secret.New(maxBatch * suite.KeySize)
	return nil
}

// manyCardKeys makes the keys of up to maxBatch cards, in locked memory that the caller wipes.
func (s *session) manyCardKeys(e *entry, p *parent, cards []keyderive.Factor) (secret.Bytes, error) {
	in := make([]byte, 0, maxBatch*suite.KeySize) // card numbers, no secret
	for _, level := range keyderive.RootFirst(cards...).Levels() {
		in = append(in, level[:]...)
	}
	keys := secret.New(len(in))
	if err := s.encrypt(e.dialect.ecb, p.key, nil, in, keys.Reveal("to receive card keys from the token")); err != nil {
		keys.Wipe() // a call that was written off has come out by now: nothing writes here any more
		return secret.Bytes{}, err
	}
	return keys, nil
}

// end gives the session's locked memory back, zeroed. No call is inside any more.
func (s *session) end() { s.batch.Wipe() }
