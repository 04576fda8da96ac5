package admission

import (
	"context"
	"slices"
	"time"
)

// Pass is one piece of work inside a queue. Its methods are called by one goroutine at a time. The zero Pass, and nil, are of no queue:
// they wait for nothing.
type Pass struct {
	queue  *Queue
	client *client
	state  state

	cost           float64
	granted        chan struct{} // made when it has to wait, closed with the slot
	since          time.Time     // when it began to wait
	before, behind *Pass
}

type state int

const (
	left state = iota // of no queue, or not any more
	entered
	waiting
	holding
)

// Enter admits one piece of a client's work, or refuses it at once with *Refused. Leave must follow.
func (q *Queue) Enter(name string) (*Pass, error) {
	now := q.now()
	q.about.see(name, now)
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.client(name)
	if c.outside >= c.limits.Queue {
		c.count.refused[BoundQueue]++
		return nil, &Refused{Client: name, Bound: BoundQueue, Limit: float64(c.limits.Queue), After: lately}
	}
	if after := c.wait(now); after > 0 {
		c.count.refused[BoundRate]++
		return nil, &Refused{Client: name, Bound: BoundRate, Limit: c.limits.Rate, After: after}
	}
	return q.enter(c), nil
}

// EnterLate is Enter for a client that is to be slowed down, not refused: it waits until the rate allows the work, and the caller bounds how
// many do. The error is that of ctx.
func (q *Queue) EnterLate(ctx context.Context, name string) (*Pass, error) {
	for {
		now := q.now()
		q.about.see(name, now)
		q.mu.Lock()
		c := q.client(name)
		after := c.wait(now)
		if after == 0 {
			defer q.mu.Unlock()
			return q.enter(c), nil
		}
		q.mu.Unlock()
		timer := time.NewTimer(after)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

func (q *Queue) enter(c *client) *Pass {
	c.outside++
	c.spend(1)
	return &Pass{queue: q, client: c, state: entered}
}

// Wait returns when the work has a slot, or with the error of ctx when that ends first. cost is the work's share, 1 for a plain request.
func (p *Pass) Wait(ctx context.Context, cost int) error {
	if p == nil || p.state != entered {
		return nil
	}
	q := p.queue
	q.mu.Lock()
	if p.grantNow(cost) {
		q.mu.Unlock()
		return nil
	}
	p.state, p.granted, p.since = waiting, make(chan struct{}), q.now()
	c := p.client
	if c.first == nil {
		q.seq++
		c.since = q.seq
		q.line = append(q.line, c)
	}
	c.push(p)
	q.mu.Unlock()
	select {
	case <-p.granted:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.state == holding { // the slot came at the same time
		return nil
	}
	p.unline()
	p.state = entered
	c.count.left++
	c.count.waited += q.now().Sub(p.since)
	return ctx.Err()
}

// Try takes a slot when there is one for the work now.
func (p *Pass) Try(cost int) bool {
	if p == nil || p.state != entered {
		return true
	}
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	return p.grantNow(cost)
}

// grantNow takes a slot that is free, ahead of nobody who waits for one that he may have.
func (p *Pass) grantNow(cost int) bool {
	q, c := p.queue, p.client
	if p.cost = float64(max(cost, 1)); p.cost > 1 {
		c.spend(p.cost - 1)
	}
	// Whoever waits could not have a slot when one was last free. While that is so, one that is free is for those who may have it.
	if c.first != nil || !q.may(c, q.now()) {
		return false
	}
	q.grant(p)
	return true
}

// Charge adds to the cost of work that holds a slot, or did: what it comes to may be known late.
func (p *Pass) Charge(cost int) {
	if p == nil || p.state == left || cost <= 0 {
		return
	}
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	p.client.had += float64(cost)
	p.client.spend(float64(cost))
}

// Done gives the slot back; the work is still inside, without one.
func (p *Pass) Done() {
	if p == nil || p.state != holding {
		return
	}
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	p.state = entered
	p.client.outside++
	p.release()
}

// Leave ends the work; a second Leave does nothing.
func (p *Pass) Leave() {
	if p == nil || p.state == left {
		return
	}
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	was := p.state
	p.state = left
	if was == holding {
		p.release()
		return
	}
	p.client.outside--
}

func (p *Pass) release() {
	p.client.held--
	p.queue.held--
	p.queue.serve()
}

// unline takes p out of those that wait.
func (p *Pass) unline() {
	q, c := p.queue, p.client
	c.remove(p)
	if c.first == nil {
		q.line = slices.DeleteFunc(q.line, func(other *client) bool { return other == c })
	}
}

// may reports whether a client may have a slot now.
func (q *Queue) may(c *client, now time.Time) bool {
	switch {
	case q.held >= q.slots || c.limits.Concurrency > 0 && c.held >= c.limits.Concurrency:
		return false
	case q.held < q.shared && c.held < q.slots-q.slots/4:
		return true
	}
	return q.onlyOne(c) && q.about.alone(c.name, now)
}

// onlyOne reports whether no other client waits: one that does is there, however long ago it came.
func (q *Queue) onlyOne(c *client) bool {
	for _, other := range q.line {
		if other != c {
			return false
		}
	}
	return true
}

// grant gives a free slot to p, which is not in the line.
func (q *Queue) grant(p *Pass) {
	c := p.client
	q.served = max(q.served, c.had)
	c.had = q.served + p.cost
	c.outside--
	c.held++
	q.held++
	c.count.admitted++
	p.state = holding
}

// serve gives free slots to those that wait, to the client that has had least first.
func (q *Queue) serve() {
	if len(q.line) == 0 {
		return
	}
	now := q.now()
	for q.held < q.slots {
		var next *client
		for _, c := range q.line {
			if q.may(c, now) && (next == nil || q.before(c, next)) {
				next = c
			}
		}
		if next == nil {
			return
		}
		p := next.first
		p.unline()
		q.grant(p)
		q.seq++
		next.since = q.seq
		next.count.waited += now.Sub(p.since)
		close(p.granted)
	}
}

// before reports whether a is served before b. Who has had less than those that were served all the time has saved up nothing.
func (q *Queue) before(a, b *client) bool {
	hadA, hadB := max(a.had, q.served), max(b.had, q.served)
	return hadA < hadB || hadA == hadB && a.since < b.since
}
