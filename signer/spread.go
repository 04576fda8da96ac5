package signer

import (
	"sync"
	"sync/atomic"

	"github.com/pursekeeper/pursekeeper/hsm"
)

// spread does n pieces of work in parts of at least least on as many goroutines as there are processors, and returns when all
// are done or the first error, or panic, has ended them: then what is begun is finished, and the rest is not. A panic is raised
// again in the caller, as if it had done the work itself.
func spread(n, least int, work func(from, to int) error) error {
	workers := min(hsm.Processors(), (n+least-1)/least)
	if workers <= 1 {
		return work(0, n)
	}
	const parts = 4 // of each worker, so that one that is slow is helped
	size := max((n+workers*parts-1)/(workers*parts), least)
	var next atomic.Int64
	var failed, panicked firstOf
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			defer func() {
				if bug := recover(); bug != nil {
					panicked.set(bug)
				}
			}()
			for !failed.is() && !panicked.is() {
				from := int(next.Add(int64(size))) - size
				if from >= n {
					return
				}
				if err := work(from, min(from+size, n)); err != nil {
					failed.set(err)
				}
			}
		})
	}
	group.Wait()
	if panicked.is() {
		panic(*panicked.value.Load())
	}
	if failed.is() {
		return (*failed.value.Load()).(error)
	}
	return nil
}

// firstOf keeps the first of what several goroutines set.
type firstOf struct{ value atomic.Pointer[any] }

func (f *firstOf) set(value any) { f.value.CompareAndSwap(nil, &value) }

func (f *firstOf) is() bool { return f.value.Load() != nil }
