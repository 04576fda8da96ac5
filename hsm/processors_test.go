package hsm

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Room is made from what the process may use, however often, and not without end; what the environment says stays.
func TestRoomForCalls(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "")
	for _, calls := range []int{1, 1, 1000} {
		MakeRoom(calls)
		assert.Equal(t, Processors()+min(calls, Processors()), runtime.GOMAXPROCS(0))
	}
	runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "3")
	MakeRoom(2)
	assert.Equal(t, before, runtime.GOMAXPROCS(0))
}
