package admission

import "time"

// client is one client of one queue. The queue's mu guards it.
type client struct {
	name   string
	limits Limits

	outside int     // passes that have entered and hold no slot
	held    int     // slots
	had     float64 // what its work has cost, on the scale of Queue.served: the least is served next
	since   uint64  // when it came into the line

	first, last *Pass // those that wait, in order

	tokens float64   // what may enter now, by cost; below 0, it owes
	filled time.Time // when tokens was right

	count counts
}

// counts is what happened to a client's work, ever.
type counts struct {
	admitted, left uint64
	refused        [bounds]uint64
	waiting        int
	waited         time.Duration
}

func (q *Queue) client(name string) *client {
	c := q.clients[name]
	if c == nil {
		limits, named := q.named[name]
		if !named {
			limits = q.limits
		}
		if limits.Burst == 0 {
			limits.Burst = max(limits.Rate, 1)
		}
		c = &client{name: name, limits: limits, tokens: limits.Burst}
		q.clients[name] = c
	}
	return c
}

// fill brings tokens up to now.
func (c *client) fill(now time.Time) {
	if elapsed := now.Sub(c.filled); elapsed > 0 {
		c.tokens = min(c.tokens+elapsed.Seconds()*c.limits.Rate, c.limits.Burst)
		c.filled = now
	}
}

// wait is how long it is until one may enter.
func (c *client) wait(now time.Time) time.Duration {
	if c.limits.Rate == 0 {
		return 0
	}
	if c.fill(now); c.tokens >= 1 {
		return 0
	}
	const longest = 365 * 24 * time.Hour // of a rate that is next to none: more than a Duration would be none
	return time.Duration(min((1-c.tokens)/c.limits.Rate, longest.Seconds()) * float64(time.Second))
}

// spend takes tokens, also such as are not there yet.
func (c *client) spend(cost float64) {
	if c.limits.Rate > 0 {
		c.tokens -= cost
	}
}

// push and remove keep the order of those that wait.
func (c *client) push(p *Pass) {
	p.before = c.last
	if c.last == nil {
		c.first = p
	} else {
		c.last.behind = p
	}
	c.last = p
	c.count.waiting++
}

func (c *client) remove(p *Pass) {
	if p.before == nil {
		c.first = p.behind
	} else {
		p.before.behind = p.behind
	}
	if p.behind == nil {
		c.last = p.before
	} else {
		p.behind.before = p.before
	}
	p.before, p.behind = nil, nil
	c.count.waiting--
}

// Stats is what happened to one client's work.
type Stats struct {
	Client   string
	Admitted uint64           // pieces of work that got a slot
	Refused  map[Bound]uint64 // by each bound
	Left     uint64           // pieces whose context ended while they waited
	Waiting  int              // now
	Held     int              // slots, now
	Waited   time.Duration    // of all that waited, together
}

// Stats are of every client that was here, in no order.
func (q *Queue) Stats() []Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Stats, 0, len(q.clients))
	for _, c := range q.clients {
		s := Stats{
			Client: c.name, Admitted: c.count.admitted, Refused: map[Bound]uint64{}, Left: c.count.left,
			Waiting: c.count.waiting, Held: c.held, Waited: c.count.waited,
		}
		for _, b := range Bounds() {
			s.Refused[b] = c.count.refused[b]
		}
		all = append(all, s)
	}
	return all
}
