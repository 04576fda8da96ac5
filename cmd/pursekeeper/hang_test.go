package main

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
)

// supervisor starts serve again when it asks for it by its status, as an init system would.
type supervisor struct {
	t        *testing.T
	statuses chan int
	stopped  atomic.Bool
	current  atomic.Pointer[served]
	over     chan struct{}
}

func supervise(t *testing.T, on *platform, first *served, again func() *program) *supervisor {
	s := &supervisor{t: t, statuses: make(chan int, 100), over: make(chan struct{})}
	s.current.Store(first)
	go func() {
		defer close(s.over)
		for {
			now := s.current.Load()
			<-now.ended
			if s.stopped.Load() {
				return
			}
			s.statuses <- now.command.ProcessState.ExitCode()
			p := again()
			found := p.hears(serving)
			if found == nil {
				return // the test waits for it in vain, and says so
			}
			next := newServed(p, first.home, found)
			on.use(next)
			s.current.Store(next)
			if s.stopped.Load() {
				next.kill()
			}
		}
	}()
	t.Cleanup(func() {
		s.stopped.Store(true)
		s.current.Load().kill()
		<-s.over
	})
	return s
}

// A call that hangs is written off and the service goes on; when the library must be reloaded while one hangs, or as many hang as
// may be in flight, or the recovery itself hangs, the process ends with status 75 and its successor goes on.
func TestFaultsThatHang(t *testing.T) {
	f := newFaulty(t, edit{`hang: 500ms`, `hang: 300ms`})
	s := supervise(t, f.on, f.served, func() *program { return start(t, f.command.Args[1:]) })
	hang := func(function string, calls uint64) {
		f.control.Set(hsmtest.Fault{Function: function, To: calls, Hang: hsmtest.HangForever})
	}
	f.hangsAlone(t, hang)
	require.True(t, f.running())
	const deviceError = 0x30
	for _, c := range []struct {
		name   string
		inject func()
	}{
		{"a reload is needed", func() {
			hang("C_Encrypt", 1)
			eventually(t, "written off", func() bool { return s.current.Load().metric("token_calls_hanging") == 1 })
			f.control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: deviceError})
		}},
		{"all that may be in flight hang", func() { hang("C_DeriveKey", 3) }},
		{"the login hangs", func() { hang("C_Login", 1); f.control.LoseSessions() }},
		{"opening a session hangs", func() {
			hang("C_OpenSession", 1)
			f.control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: deviceError})
		}},
		{"the list of slots hangs", func() { hang("C_GetSlotList", 1); f.control.LoseSessions() }},
		{"initialize hangs", func() {
			hang("C_Initialize", 1)
			f.control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: deviceError})
		}},
		{"finalize hangs", func() {
			hang("C_Finalize", 1)
			f.control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: deviceError})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.on.approvedSince(t, time.Now(), recoveryLimit)
			c.inject()
			select {
			case status := <-s.statuses:
				require.Equal(t, hsm.ExitRestart, status, lastOf(s.current.Load().out.String(), 2000))
			case <-time.After(patience):
				require.Fail(t, "the process does not end")
			}
			f.on.approvedSince(t, time.Now(), recoveryLimit)
			rulesKept(t, f.control)
		})
	}
}

// hangsAlone has one call hang; the same process goes on.
func (f *faulty) hangsAlone(t *testing.T, hang func(string, uint64)) {
	t.Helper()
	for i, function := range []string{"C_DeriveKey", "C_Encrypt", "C_DestroyObject", "C_Decrypt"} {
		hang(function, 1)
		eventually(t, "written off", func() bool { return f.metric("token_calls_written_off_total") >= float64(i+1) })
		f.on.approvedSince(t, time.Now(), recoveryLimit)
		f.recovers(t)
		eventually(t, "the call came out", func() bool { return f.metric("token_calls_hanging") == 0 })
	}
	assert.True(t, f.ready())
}
