// Package admission shares work in flight fairly among clients, and refuses at once what is beyond their bounds.
//
// A Queue has a number of slots. Work enters, waits for a slot, holds it, and leaves:
//
//	pass, err := queue.Enter("platform") // *Refused: the client's bounds are reached
//	defer pass.Leave()
//	err = pass.Wait(ctx, 1)              // until there is a slot for it, or ctx ends
//	...                                  // the work
//	pass.Done()                          // the slot is free; Leave would free it too
//
// Clients that wait are served fairly, by what their work costs: the next slot goes to the client that has had least since it came. So one
// that has hundreds waiting is one piece of work ahead of another, and one that was away has saved up nothing. A client that is alone has
// all slots; while others are about, or were within a second, it leaves a quarter of them free, so that they need not wait for one.
//
// Clients are known names, and few: a Queue remembers each that it has met. It knows nothing of what the work is.
package admission

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// Limits are a client's bounds.
type Limits struct {
	// Queue is how many pieces of its work may be inside without a slot, at least 1. One more is refused.
	Queue int
	// Concurrency is how many of the slots it may hold; the rest waits. 0: all.
	Concurrency int
	// Rate is how much of its work may enter per second, by cost; beyond it, it is refused. 0: no bound.
	Rate float64
	// Burst is how much may enter at once after a pause. 0: Rate, or 1 where that is less.
	Burst float64
}

// Config is what New needs.
type Config struct {
	// Slots is how many pieces of work are in flight at once, of all clients; at least 1.
	Slots int
	// Shared is the same while several clients are about, 1 to Slots; 0: Slots. Less than Slots leaves processors to work of other queues.
	Shared  int
	Default Limits
	Clients map[string]Limits // in place of Default, by name
	// About is who is about, of several queues together. nil: of this queue alone.
	About *About
	Now   func() time.Time // nil: the system's clock
}

// Queue is safe for concurrent use.
type Queue struct {
	slots, shared int
	limits        Limits
	named         map[string]Limits
	about         *About
	now           func() time.Time

	mu      sync.Mutex // guards what follows, and all of client and Pass that is not constant
	held    int
	served  float64            // what the work has cost of a client that was served all the time
	seq     uint64             // orders clients that have had the same
	clients map[string]*client // everybody who was here
	line    []*client          // those that have work that waits for a slot
}

// New validates c.
func New(c Config) (*Queue, error) {
	if c.Shared == 0 {
		c.Shared = c.Slots
	}
	if c.Slots < 1 || c.Shared < 1 || c.Shared > c.Slots {
		return nil, fmt.Errorf("admission: slots %d, shared %d: expected 1 or more, and at most as many shared", c.Slots, c.Shared)
	}
	if err := c.Default.Validate(); err != nil {
		return nil, fmt.Errorf("admission: %w", err)
	}
	for name, limits := range c.Clients {
		if err := limits.Validate(); err != nil {
			return nil, fmt.Errorf("admission: client %q: %w", name, err)
		}
	}
	if c.About == nil {
		c.About = &About{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Queue{
		slots: c.Slots, shared: c.Shared, limits: c.Default, named: c.Clients, about: c.About, now: c.Now, clients: map[string]*client{},
	}, nil
}

// Validate names the bound that is out of range.
func (l Limits) Validate() error {
	switch {
	case l.Queue < 1:
		return fmt.Errorf("queue %d: expected at least 1", l.Queue)
	case l.Concurrency < 0:
		return fmt.Errorf("concurrency %d: expected 0 or more", l.Concurrency)
	case !(l.Rate >= 0) || math.IsInf(l.Rate, 0):
		return fmt.Errorf("rate %v: expected 0 or more", l.Rate)
	case !(l.Burst >= 0) || math.IsInf(l.Burst, 0):
		return fmt.Errorf("burst %v: expected 0 or more", l.Burst)
	case l.Burst > 0 && l.Rate == 0:
		return errors.New("burst: has no use without a rate")
	case l.Burst > 0 && l.Burst < 1:
		return fmt.Errorf("burst %v: expected at least 1", l.Burst)
	}
	return nil
}

// Bound says which of a client's bounds refused it. The zero Bound is none.
type Bound int

// The bounds.
const (
	BoundQueue Bound = iota + 1
	BoundRate
	bounds
)

// Bounds are all bounds.
func Bounds() []Bound { return []Bound{BoundQueue, BoundRate} }

func (b Bound) String() string {
	switch b {
	case BoundQueue:
		return "queue"
	case BoundRate:
		return "rate"
	}
	return fmt.Sprintf("Bound(%d)", int(b))
}

// Refused says that a client is beyond a bound of its own. Nothing was begun.
type Refused struct {
	Client string
	Bound  Bound
	Limit  float64       // the bound's value: pieces of work, or their cost per second
	After  time.Duration // when it may be worth another try
}

func (r *Refused) Error() string {
	if r.Bound == BoundRate {
		return fmt.Sprintf("rate: more than %v a second", r.Limit)
	}
	return fmt.Sprintf("queue: %v requests wait already", r.Limit)
}
