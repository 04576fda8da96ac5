package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
)

// slow is a serve child whose token takes its time.
func slow(t *testing.T, fault hsmtest.Fault, edits ...edit) (*served, *platform, *hsmtest.Control) {
	t.Helper()
	h := newHome(t)
	token, control := hsmtest.NewFaultToken(t)
	s := serveChild(h, h.config("slow.yaml", append(edits, behindFaults(token), aside(t))...), withEnv(token.Env()...))
	on := &platform{}
	on.use(s)
	require.NoError(t, newWallet(t, on, "demo", 1).load(t.Context()))
	control.Set(fault)
	return s, on, control
}

// What is in flight at SIGTERM is finished and answered; what comes after is refused. The status is 0.
func TestStopFinishesWhatIsInFlight(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		served, on, control := slow(t, hsmtest.Fault{Function: "C_Encrypt", Latency: 300 * time.Millisecond})
		w := newWallet(t, on, "demo", 2)
		a := w.initialize()
		calls := control.Calls("C_Encrypt")
		answered := make(chan *v1.AuthorizeLoadResponse, 1)
		go func() {
			answer, err := (*on.client.Load()).AuthorizeLoad(t.Context(), a.request)
			assert.NoError(t, err)
			answered <- answer
		}()
		eventually(t, "the token computes", func() bool { return control.Calls("C_Encrypt") > calls })
		served.signal(s)
		answer := <-answered
		require.NotNil(t, answer)
		require.Equal(t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome)
		w.credit(a, answer.Command)
		assert.Zero(t, served.status(patience), lastOf(served.out.String(), 1000))
		rulesKept(t, control)
	}
}

// A library that holds a call for ever does not hold the process: it ends, and its status says that not all was in order.
func TestStopWhileTheLibraryHangs(t *testing.T) {
	fault := hsmtest.Fault{Function: "C_Login", Hang: hsmtest.HangForever}
	limits := edit{`^clients:`, "limits: {shutdownTimeout: 500ms}\nclients:"}
	s, on, control := slow(t, fault, limits, edit{`development: true`, "development: true\n  queue: 10"})
	control.LoseSessions()
	stop := traffic([]*wallet{newWallet(t, on, "demo", 3)}, (*wallet).load)
	eventually(t, "the login hangs", func() bool { return control.Stats().Hanging == 1 })
	stop()
	s.signal(syscall.SIGTERM)
	assert.Equal(t, 1, s.status(10*time.Second))
	assert.Contains(t, s.out.String(), "hang")
	rulesKept(t, control)
}

// One home, two processes: the second does not spoil the first's database, whatever it says of it.
func TestServeTwice(t *testing.T) {
	h := newHome(t)
	config := h.config("serve.yaml")
	first := serveChild(h, config)
	on := &platform{}
	on.use(first)
	w := newWallet(t, on, "demo", 1)
	require.NoError(t, w.load(t.Context()))
	second := serveChild(h, config)
	on.use(second)
	require.NoError(t, w.load(t.Context()), "state is in the store alone")
	on.use(first)
	require.NoError(t, w.load(t.Context()))
	assert.Zero(t, second.terminate())
	require.NoError(t, w.load(t.Context()))
	assert.Zero(t, first.terminate())
	watch := newAuditor(t, h.stateFile, []*wallet{w})
	watch.read()
	assert.Len(t, watch.counters, 4)
}

// A tool that is told to stop takes its throw-away folders with it.
func TestStopLeavesNothing(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		says      string
	}{
		{[]string{"demo"}, "GET BALANCE"},
		{[]string{"bench", "load", "--for", "2s"}, ""},
	} {
		p := start(t, c.arguments, temporary(t))
		p.says(c.says)
		if c.says == "" {
			time.Sleep(time.Second)
		}
		p.signal(syscall.SIGTERM)
		p.status(patience)
	}
}
