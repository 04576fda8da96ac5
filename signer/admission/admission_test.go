package admission

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newQueue(t testing.TB, c Config) *Queue {
	t.Helper()
	if c.Default.Queue == 0 {
		c.Default.Queue = 1000
	}
	q, err := New(c)
	require.NoError(t, err)
	return q
}

// work is one piece of a client's work in a test.
type work struct {
	*Pass
	client string
	cost   int
	leave  context.CancelFunc
	done   chan error // what Wait returned
}

// begin enters and waits in a goroutine of its own.
func begin(t require.TestingT, q *Queue, client string, cost int) *work {
	p, err := q.Enter(client)
	require.NoError(t, err)
	ctx, leave := context.WithCancel(context.Background())
	w := &work{Pass: p, client: client, cost: cost, leave: leave, done: make(chan error, 1)}
	go func() { w.done <- p.Wait(ctx, cost) }()
	synctest.Wait()
	return w
}

// has reports whether the work has its slot.
func (w *work) has() bool { return len(w.done) == 1 }

func (w *work) end(t require.TestingT) {
	require.NoError(t, <-w.done)
	w.leave()
	w.Leave()
	synctest.Wait()
}

func of(t testing.TB, q *Queue, client string) Stats {
	t.Helper()
	for _, s := range q.Stats() {
		if s.Client == client {
			return s
		}
	}
	return Stats{}
}

// bubble runs f in a bubble with a clock of its own.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func TestAFloodIsOneAheadOfAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(t, Config{Slots: 1})
		first := begin(t, q, "flood", 1)
		var flood []*work
		for range 100 {
			flood = append(flood, begin(t, q, "flood", 1))
		}
		quiet := begin(t, q, "quiet", 1)
		first.end(t)
		require.True(t, quiet.has(), "the next slot is for the client that had least")
		require.False(t, flood[0].has())
		quiet.end(t)
		for i, w := range flood {
			require.True(t, w.has(), "%d: a client's own work keeps its order", i)
			w.end(t)
		}
		assert.Equal(t, Stats{Client: "flood", Admitted: 101, Refused: map[Bound]uint64{BoundQueue: 0, BoundRate: 0}}, of(t, q, "flood"))
	})
}

func TestClientsTakeTurnsByCost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(t, Config{Slots: 1})
		hold := begin(t, q, "other", 1)
		var all []*work
		for range 4 {
			all = append(all, begin(t, q, "batches", 10))
		}
		for range 40 {
			all = append(all, begin(t, q, "loads", 1))
		}
		hold.end(t)
		served := map[string]int{}
		for range 33 {
			for _, w := range all {
				if w.done != nil && w.has() {
					served[w.client] += w.cost
					w.end(t)
					w.done = nil
					break
				}
			}
			assert.LessOrEqual(t, served["batches"]-served["loads"], 10, "%v", served)
			assert.LessOrEqual(t, served["loads"]-served["batches"], 10, "%v", served)
		}
		for _, w := range all {
			w.leave()
		}
		synctest.Wait()
	})
}

// What a batch comes to is known late: its client waits for as much longer.
func TestWhatIsChargedLateCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(t, Config{Slots: 1})
		batch := begin(t, q, "batches", 1)
		next := begin(t, q, "batches", 1)
		loads := []*work{begin(t, q, "loads", 1), begin(t, q, "loads", 1), begin(t, q, "loads", 1)}
		batch.Charge(2)
		batch.end(t)
		for range 2 {
			require.True(t, loads[0].has())
			loads[0].end(t)
			loads = loads[1:]
		}
		loads[0].end(t)
		require.True(t, next.has())
		next.end(t)
	})
}

func TestOneAloneHasAllSlots(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(t, Config{Slots: 8})
		var held []*work
		for range 8 {
			held = append(held, begin(t, q, "alone", 1))
			require.True(t, held[len(held)-1].has())
		}
		more := begin(t, q, "alone", 1)
		require.False(t, more.has(), "there are no more than there are")
		other := begin(t, q, "other", 1)
		require.False(t, other.has())
		held[0].end(t)
		require.True(t, other.has())
		held[1].end(t)
		require.False(t, more.has(), "while another is about, a quarter is left to it")
		other.end(t)
		second := begin(t, q, "other", 1)
		require.True(t, second.has(), "at once")
		second.end(t)
		time.Sleep(lately)
		held[2].end(t)
		require.True(t, more.has(), "alone again")
		more.end(t)
		for _, w := range held[3:] {
			w.end(t)
		}
	})
}

func TestFewerSlotsWhileOthersAreAbout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		about := &About{}
		batches, loads := newQueue(t, Config{Slots: 4, Shared: 1, About: about}), newQueue(t, Config{Slots: 4, About: about})
		a, b := begin(t, batches, "batches", 1), begin(t, batches, "batches", 1)
		require.True(t, a.has() && b.has(), "alone")
		load := begin(t, loads, "loads", 1)
		c := begin(t, batches, "batches", 1)
		require.False(t, c.has())
		a.end(t)
		require.False(t, c.has(), "one is at work already")
		b.end(t)
		require.True(t, c.has())
		c.end(t)
		load.end(t)
	})
}

// Who waits is about, however long ago it came: a flood that took it for gone would have every slot that gets free.
func TestWhoWaitsLongIsAbout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(t, Config{Slots: 2, Shared: 1})
		flood := []*work{begin(t, q, "flood", 1), begin(t, q, "flood", 1), begin(t, q, "flood", 1), begin(t, q, "flood", 1)}
		patient := begin(t, q, "patient", 1)
		time.Sleep(2 * lately)
		flood = append(flood, begin(t, q, "flood", 1))
		for range 2 {
			require.True(t, flood[0].has())
			flood[0].end(t)
			flood = flood[1:]
		}
		require.True(t, patient.has(), "it waits, and another has had more")
		patient.end(t)
		for _, w := range flood {
			w.end(t)
		}
	})
}

func TestBounds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(t, Config{Slots: 4, Clients: map[string]Limits{
			"narrow": {Queue: 2, Concurrency: 1}, "slow": {Queue: 10, Rate: 2, Burst: 3},
		}})
		first := begin(t, q, "narrow", 1)
		waits := []*work{begin(t, q, "narrow", 1), begin(t, q, "narrow", 1)}
		require.True(t, first.has())
		require.False(t, waits[0].has(), "its concurrency is one, and slots are free")
		_, err := q.Enter("narrow")
		var refused *Refused
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, Refused{Client: "narrow", Bound: BoundQueue, Limit: 2, After: lately}, *refused)
		assert.Equal(t, "queue: 2 requests wait already", refused.Error())
		first.end(t)
		waits[0].end(t)
		waits[1].end(t)
		assert.EqualValues(t, 1, of(t, q, "narrow").Refused[BoundQueue])

		for range 3 {
			begin(t, q, "slow", 1).end(t)
		}
		_, err = q.Enter("slow")
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, Refused{Client: "slow", Bound: BoundRate, Limit: 2, After: time.Second / 2}, *refused)
		assert.Equal(t, "rate: more than 2 a second", refused.Error())
		time.Sleep(refused.After)
		begin(t, q, "slow", 5).end(t) // it owes four now
		_, err = q.Enter("slow")
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, 5*time.Second/2, refused.After)
		begin(t, q, "another", 1).end(t)
	})
}

// The least of rates is a rate.
func TestARateOfNextToNothing(t *testing.T) {
	q := newQueue(t, Config{Slots: 1, Default: Limits{Queue: 9, Rate: 1e-300}})
	p, err := q.Enter("slow")
	require.NoError(t, err)
	defer p.Leave()
	var refused *Refused
	_, err = q.Enter("slow")
	require.ErrorAs(t, err, &refused)
	assert.Greater(t, refused.After, 24*time.Hour)
}

// A stream is slowed down to its client's rate.
func TestEnterLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(t, Config{Slots: 1, Default: Limits{Queue: 1, Rate: 10, Burst: 1}})
		start := time.Now()
		var all []*Pass
		for range 5 {
			p, err := q.EnterLate(t.Context(), "stream")
			require.NoError(t, err)
			all = append(all, p)
		}
		assert.InDelta(t, 0.4, time.Since(start).Seconds(), 0.001)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := q.EnterLate(ctx, "stream")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for _, p := range all {
			p.Leave()
		}
	})
}

func TestWhoLeavesTheQueueHoldsNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(t, Config{Slots: 1})
		first, second, third := begin(t, q, "a", 1), begin(t, q, "a", 1), begin(t, q, "a", 1)
		time.Sleep(time.Second)
		second.leave()
		require.ErrorIs(t, <-second.done, context.Canceled)
		assert.Equal(t, 1, of(t, q, "a").Waiting)
		assert.EqualValues(t, 1, of(t, q, "a").Left)
		assert.Equal(t, time.Second, of(t, q, "a").Waited)
		second.Leave()
		second.Leave()
		first.end(t)
		require.True(t, third.has())
		third.end(t)
		require.Empty(t, q.line)
		require.Zero(t, q.clients["a"].outside)
	})
}

// Done gives the slot back and keeps the place; Leave after it gives the place back.
func TestDone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(t, Config{Slots: 1, Default: Limits{Queue: 1}})
		a := begin(t, q, "a", 1)
		require.True(t, a.has())
		a.Done()
		a.Done()
		_, err := q.Enter("a")
		require.Error(t, err, "an answer that is not taken is a place")
		other := begin(t, q, "b", 1)
		require.True(t, other.has())
		a.Leave()
		again, err := q.Enter("a")
		require.NoError(t, err)
		assert.False(t, again.Try(1))
		other.end(t)
		assert.True(t, again.Try(1))
		again.Leave()
	})
}

func TestAPassOfNoQueue(t *testing.T) {
	for _, p := range []*Pass{nil, {}} {
		assert.NoError(t, p.Wait(t.Context(), 1))
		assert.True(t, p.Try(1))
		p.Charge(3)
		p.Done()
		p.Leave()
	}
}

func TestWhatNewRefuses(t *testing.T) {
	for want, c := range map[string]Config{
		"slots 0":                          {},
		"slots 2, shared 3":                {Slots: 2, Shared: 3},
		"queue 0: expected at least 1":     {Slots: 1},
		"concurrency -1":                   {Slots: 1, Default: Limits{Queue: 1, Concurrency: -1}},
		"rate NaN":                         {Slots: 1, Default: Limits{Queue: 1, Rate: math.NaN()}},
		"rate +Inf":                        {Slots: 1, Default: Limits{Queue: 1, Rate: math.Inf(1)}},
		"burst -1":                         {Slots: 1, Default: Limits{Queue: 1, Rate: 1, Burst: -1}},
		"burst 0.5: expected":              {Slots: 1, Default: Limits{Queue: 1, Rate: 1, Burst: 0.5}},
		"burst: has no use":                {Slots: 1, Default: Limits{Queue: 1, Burst: 1}},
		`client "x": queue 0: expected at`: {Slots: 1, Default: Limits{Queue: 1}, Clients: map[string]Limits{"x": {}}},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, want)
	}
	assert.Equal(t, "Bound(0)", Bound(0).String())
	assert.False(t, errors.As(context.Canceled, new(*Refused)))
}

// The price of a request that nothing delays.
func BenchmarkEnterAndLeave(b *testing.B) {
	q := newQueue(b, Config{Slots: 64})
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		p, err := q.Enter("platform")
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Wait(ctx, 1); err != nil {
			b.Fatal(err)
		}
		p.Done()
		p.Leave()
	}
}

func BenchmarkRefuse(b *testing.B) {
	q := newQueue(b, Config{Slots: 1, Default: Limits{Queue: 1}})
	_, err := q.Enter("flood")
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := q.Enter("flood"); err == nil {
			b.Fatal("entered")
		}
	}
}
