package admission

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// model is what a queue should be, written down without its shortcuts: who holds, and who waits in the order of arrival.
type model struct {
	slots, shared int
	limits        map[string]Limits
	holding       []*work
	waiting       []*work
	seen          map[string]bool
	had           map[string]float64 // of each client, since the last moment when it did not wait
}

func (m *model) holds(client string) (n int) {
	for _, w := range m.holding {
		if client == "" || w.client == client {
			n++
		}
	}
	return n
}

// may is the rule of a slot, as the package's comment has it.
func (m *model) may(client string) bool {
	if m.holds("") >= m.slots || m.limits[client].Concurrency > 0 && m.holds(client) >= m.limits[client].Concurrency {
		return false
	}
	return len(m.seen) == 1 || m.holds("") < m.shared && m.holds(client) < m.slots-m.slots/4
}

// settle moves what got its slot, and checks that it was the first of its client.
func (m *model) settle(t *rapid.T) {
	for i := 0; i < len(m.waiting); i++ {
		w := m.waiting[i]
		if !w.has() {
			continue
		}
		for _, before := range m.waiting[:i] {
			require.NotEqual(t, before.client, w.client, "passed by a later one of its own client")
		}
		m.waiting = slices.Delete(m.waiting, i, i+1)
		i--
		m.holding = append(m.holding, w)
		m.had[w.client] += float64(w.cost)
	}
}

// check is what holds after each step.
func (m *model) check(t *rapid.T) {
	m.settle(t)
	require.LessOrEqual(t, m.holds(""), m.slots)
	backlogged := map[string]bool{}
	for _, w := range m.waiting {
		require.False(t, m.may(w.client), "%s waits, and may have a slot", w.client)
		backlogged[w.client] = true
	}
	for name, limits := range m.limits {
		require.True(t, limits.Concurrency == 0 || m.holds(name) <= limits.Concurrency)
	}
	// Two that waited all the time, and that no bound of their own holds back, have had the same but for one piece of each.
	for a := range m.limits {
		if !backlogged[a] || m.limits[a].Concurrency > 0 || m.holds(a) >= m.slots-m.slots/4 {
			clear(m.had)
			return
		}
	}
	for a := range m.limits {
		for b := range m.limits {
			require.LessOrEqual(t, m.had[a]-m.had[b], float64(2*mostCost), "%s had more than %s", a, b)
		}
	}
}

const mostCost = 5

// undated is a test without its deadline, which has no place in a bubble.
type undated struct{ testing.TB }

func TestAgainstAModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(undated{t}, func(t *rapid.T) {
			m := &model{slots: rapid.IntRange(1, 9).Draw(t, "slots"), seen: map[string]bool{}, had: map[string]float64{}, limits: map[string]Limits{}}
			m.shared = rapid.IntRange(1, m.slots).Draw(t, "shared")
			names := []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "clients")]
			for _, name := range names {
				m.limits[name] = Limits{Queue: 1000, Concurrency: rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(t, "concurrency")}
			}
			q, err := New(Config{Slots: m.slots, Shared: m.shared, Default: Limits{Queue: 1}, Clients: m.limits})
			require.NoError(t, err)
			steps := rapid.IntRange(1, 150).Draw(t, "steps")
			for range steps {
				m.step(t, q, names)
				m.check(t)
			}
			m.end(t)
			require.Empty(t, q.line)
			require.Zero(t, q.held)
			for _, c := range q.clients {
				require.Zero(t, c.outside+c.held)
			}
		})
	})
}

func (m *model) step(t *rapid.T, q *Queue, names []string) {
	switch action := rapid.IntRange(0, 6).Draw(t, "action"); {
	case action < 3:
		name := rapid.SampledFrom(names).Draw(t, "client")
		m.seen[name] = true
		m.waiting = append(m.waiting, begin(t, q, name, rapid.IntRange(1, mostCost).Draw(t, "cost")))
	case action < 6 && len(m.holding) > 0:
		i := rapid.IntRange(0, len(m.holding)-1).Draw(t, "ends")
		w := m.holding[i]
		m.holding = slices.Delete(m.holding, i, i+1)
		w.end(t)
	case action == 6 && len(m.waiting) > 0:
		i := rapid.IntRange(0, len(m.waiting)-1).Draw(t, "leaves")
		w := m.waiting[i]
		m.waiting = slices.Delete(m.waiting, i, i+1)
		w.leave()
		require.Error(t, <-w.done)
		w.Leave()
		synctest.Wait()
	}
}

// end lets everything come to its end: nobody is forgotten.
func (m *model) end(t *rapid.T) {
	for len(m.holding) > 0 {
		w := m.holding[0]
		m.holding = m.holding[1:]
		w.end(t)
		m.settle(t)
	}
	require.Empty(t, m.waiting, "waits for ever")
}

// Many goroutines at once, for the race detector: no slot is lost, none is given twice.
func TestManyAtOnce(t *testing.T) {
	q := newQueue(t, Config{Slots: 3, Shared: 2})
	running := make(chan struct{}, 3)
	done := make(chan error)
	const each = 200
	for _, name := range []string{"a", "b", "c", "d"} {
		for range 4 {
			go func() {
				for range each {
					p, err := q.Enter(name)
					if err == nil {
						err = p.Wait(t.Context(), 1)
					}
					if err != nil {
						done <- err
						return
					}
					select {
					case running <- struct{}{}:
						<-running
					default:
						panic("more at work than slots")
					}
					p.Leave()
				}
				done <- nil
			}()
		}
	}
	for range 16 {
		require.NoError(t, <-done)
	}
	require.Zero(t, q.held)
	require.Empty(t, q.line)
}

// The same while callers leave at any moment, also at that at which they get their slot: no slot and no place is lost.
func TestManyLeaveAtOnce(t *testing.T) {
	q := newQueue(t, Config{Slots: 2, Default: Limits{Queue: 1000}})
	done := make(chan error)
	const each = 300
	for _, name := range []string{"a", "b", "c"} {
		for n := range 4 {
			go func() {
				for i := range each {
					p, err := q.Enter(name)
					if err != nil {
						done <- err
						return
					}
					ctx, leave := context.WithCancel(t.Context())
					go func() {
						for range (i * (n + 1)) % 40 {
							runtime.Gosched()
						}
						leave()
					}()
					if p.Wait(ctx, 1) == nil {
						runtime.Gosched()
						if i%2 == 0 {
							p.Done()
						}
					}
					p.Leave()
				}
				done <- nil
			}()
		}
	}
	for range 12 {
		require.NoError(t, <-done)
	}
	require.Zero(t, q.held)
	require.Empty(t, q.line)
	left := uint64(0)
	for _, c := range q.clients {
		require.Zero(t, c.outside+c.held+c.count.waiting)
		require.Nil(t, c.first)
		left += c.count.left
	}
	require.NotZero(t, left, "nobody left while he waited")
}
