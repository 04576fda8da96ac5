package hsm

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func jobOf(caller string) *job {
	j := newJob(nil)
	j.caller = caller
	return j
}

func (t *turns) pop() *job {
	<-t.ready
	return t.take()
}

// One who has many waiting is one ahead of another, and each has his own in order.
func TestCallersTakeTurns(t *testing.T) {
	line := newTurns(8)
	jobs := []*job{jobOf("flood"), jobOf("flood"), jobOf("flood"), jobOf("late"), jobOf(""), jobOf("late")}
	for _, j := range jobs {
		require.True(t, line.put(j))
	}
	assert.Equal(t, 6, line.waiting())
	for _, want := range []int{0, 3, 4, 1, 5, 2} {
		assert.Same(t, jobs[want], line.pop(), "job %d", want)
	}
	assert.Zero(t, line.waiting())
	assert.Empty(t, line.callers)
}

func TestAsManyWaitAsMay(t *testing.T) {
	line := newTurns(2)
	require.True(t, line.put(jobOf("a")))
	require.True(t, line.put(jobOf("b")))
	assert.False(t, line.put(jobOf("c")))
	line.pop()
	assert.True(t, line.put(jobOf("c")))
}

// Who leaves takes his place along: one who sends and leaves again and again would fill the queue for all while the workers are busy.
func TestWhoLeavesTakesNoPlaceOfTheQueue(t *testing.T) {
	token := newToken(Config{Queue: 2, Log: slog.New(slog.DiscardHandler)})
	g := &generation{token: token, jobs: newTurns(2), down: make(chan struct{})}
	p := &parent{}
	p.batch.queued = true // a job that has not begun
	for range 5 {
		ctx, leave := context.WithCancel(WithCaller(t.Context(), "flood"))
		left := make(chan error, 2)
		go func() { left <- g.do(ctx, g.jobs, newJob(nil)) }()
		go func() {
			_, err := g.cardKey(ctx, &entry{}, p, [16]byte{})
			left <- err
		}()
		require.Eventually(t, func() bool {
			p.batch.mu.Lock()
			defer p.batch.mu.Unlock()
			n := len(p.batch.waiting)
			return g.jobs.waiting() == 1 && n > 0 && !p.batch.waiting[n-1].gone.Load()
		}, 10*time.Second, time.Millisecond)
		leave()
		require.ErrorIs(t, <-left, context.Canceled)
		require.ErrorIs(t, <-left, context.Canceled)
	}
	assert.Zero(t, g.jobs.waiting())
	assert.Empty(t, g.jobs.callers)
	assert.Empty(t, g.jobs.next)
}

// A worker that was told of a job whose caller left at that moment finds none.
func TestAJobThatIsDroppedWhileItIsTaken(t *testing.T) {
	line := newTurns(2)
	a, b := jobOf("a"), jobOf("b")
	require.True(t, line.put(a))
	<-line.ready
	line.drop(a)
	line.drop(a)
	assert.Nil(t, line.take())
	require.True(t, line.put(a))
	require.True(t, line.put(b))
	<-line.ready
	line.drop(a)
	assert.Zero(t, line.waiting())
	assert.Same(t, b, line.take(), "in the place of the other")
	assert.Empty(t, line.callers)
}

func TestCallerOfAContext(t *testing.T) {
	assert.Equal(t, "", callerOf(context.Background()))
	assert.Equal(t, "platform", callerOf(WithCaller(context.Background(), "platform")))
}

// Nothing is lost or doubled, each caller's jobs come in order, and nobody who waits is passed twice by the same other.
func TestTurnsAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := newTurns(1000)
		model := map[string][]*job{}
		passed := map[string]map[string]int{} // of each who waits: how often others went since his last turn
		for _, caller := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "take", "take", "leave"}), 1, 200).Draw(t, "steps") {
			if caller == "leave" {
				for name, jobs := range model {
					if len(jobs) > 0 {
						i := rapid.IntRange(0, len(jobs)-1).Draw(t, "leaves")
						line.drop(jobs[i])
						model[name] = slices.Delete(jobs, i, i+1)
						break
					}
				}
				continue
			}
			if caller != "take" {
				j := jobOf(caller)
				require.True(t, line.put(j))
				if len(model[caller]) == 0 {
					passed[caller] = map[string]int{}
				}
				model[caller] = append(model[caller], j)
				continue
			}
			waits := 0
			for _, jobs := range model {
				waits += len(jobs)
			}
			require.Equal(t, waits, line.waiting())
			if waits == 0 {
				continue
			}
			j := line.pop()
			require.Same(t, model[j.caller][0], j)
			model[j.caller] = model[j.caller][1:]
			passed[j.caller] = map[string]int{}
			for other, waits := range model {
				if other != j.caller && len(waits) > 0 {
					passed[other][j.caller]++
					require.LessOrEqual(t, passed[other][j.caller], 1, "%s passed %s twice", j.caller, other)
				}
			}
		}
	})
}
