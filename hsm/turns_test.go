package hsm

import (
	"context"
	"testing"

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
		for _, caller := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "take", "take"}), 1, 200).Draw(t, "steps") {
			if caller != "take" {
				j := jobOf(caller)
				require.True(t, line.put(j))
				if len(model[caller]) == 0 {
					passed[caller] = map[string]int{}
				}
				model[caller] = append(model[caller], j)
				continue
			}
			if line.waiting() == 0 {
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
