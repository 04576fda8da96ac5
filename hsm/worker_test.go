package hsm

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// logged is a log that a test reads.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A fault of the token is acted on however use ends: by a panic, by the end of its goroutine.
func TestAFaultOutlivesThePanicOfUse(t *testing.T) {
	token, control, keys := faulty(t, nil)
	fails := func(code uint, how func()) {
		t.Helper()
		contractComputes(t, suite.TDES, keys[0])
		control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: code})
		_ = keys[0].Lend(context.Background(), demoPath, func(unit keyderive.Unit) error {
			_, err := unit.Derive([16]byte{}, keyderive.ToDerive)
			assert.ErrorIs(t, err, ErrUnavailable)
			how()
			return nil
		})
	}
	generation := uint64(1)
	for name, how := range map[string]func(){"panic": func() { panic("mine") }, "exit": runtime.Goexit} {
		discarded := token.Stats().Discarded
		lend := func(code uint) {
			if name == "panic" {
				assert.PanicsWithValue(t, "mine", func() { fails(code, how) }, name)
				return
			}
			fails(code, how)
		}
		lend(pkcs11.CKR_SESSION_HANDLE_INVALID)
		contractComputes(t, suite.TDES, keys[0])
		require.Eventually(t, func() bool { return token.Stats().Discarded == discarded+1 }, recoveryLimit, tick, name)
		assert.Equal(t, generation, token.Stats().Generation, name)

		lend(pkcs11.CKR_DEVICE_ERROR)
		generation++
		require.Eventually(t, func() bool { return token.Stats().Generation == generation && token.State() == StateReady }, recoveryLimit, tick, name)
	}
	contractComputes(t, suite.TDES, keys[0])
	rulesKept(t, control)
}

// A panic that no caller waits for is in the log.
func TestAPanicAfterItsCallerLeftIsLogged(t *testing.T) {
	var log logged
	token, _, keys := faulty(t, func(config *Config) { config.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	contractComputes(t, suite.TDES, keys[0])
	ctx, cancel := context.WithCancel(context.Background())
	goOn := make(chan struct{})
	err := keys[0].Lend(ctx, demoPath, func(keyderive.Unit) error {
		cancel()
		<-goOn
		panic("nobody hears")
	})
	require.ErrorIs(t, err, context.Canceled)
	close(goOn)
	require.Eventually(t, func() bool { return bytes.Contains([]byte(log.String()), []byte("nobody hears")) }, recoveryLimit, tick)
	require.Eventually(t, func() bool { return token.Stats().InFlight == 0 }, recoveryLimit, tick)
	contractComputes(t, suite.TDES, keys[0])
}

// A worker has its locked memory before its first job; the anchor needs none. A new session takes over its predecessor's, and one
// that stands in for a hanging one has its own.
func TestLockedMemoryIsReserved(t *testing.T) {
	token, control, keys := faulty(t, func(config *Config) { config.Hang, config.InFlight = testHang, 2 })
	g, err := token.generation()
	require.NoError(t, err)
	memory := func(queue *turns) (n int) {
		require.NoError(t, g.do(context.Background(), queue, newJob(simple(func(s *session) error { n = s.batch.Len(); return nil }))))
		return n
	}
	workers := func() {
		t.Helper()
		for range 20 {
			assert.Equal(t, maxBatch*suite.KeySize, memory(g.jobs))
		}
	}
	workers()
	assert.Zero(t, memory(g.admin))
	contractComputes(t, suite.TDES, keys[0])
	control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: pkcs11.CKR_SESSION_HANDLE_INVALID})
	_, err = loadMAC2(context.Background(), t, keys[0], demoPath, "7E1722D0")
	require.ErrorIs(t, err, ErrUnavailable)
	workers()
	require.ErrorIs(t, hangOne(t, control, keys[0], "C_DeriveKey"), ErrUnavailable)
	workers()
	assert.Equal(t, uint64(1), token.Stats().Generation)
	settle(t, token, control)
}

// A panic while card keys are made answers everybody who waits, those of the batch and those behind it.
func TestAPanicInABatchAnswersAll(t *testing.T) {
	var log logged
	token, control, keys := faulty(t, func(config *Config) {
		config.InFlight, config.Log = 1, slog.New(slog.NewTextHandler(&log, nil))
	})
	contractComputes(t, suite.TDES, keys[1])
	g, err := token.generation()
	require.NoError(t, err)
	var memory secret.Bytes
	onWorker := func(f func(*session)) {
		require.NoError(t, g.do(context.Background(), g.jobs, newJob(simple(func(s *session) error { f(s); return nil }))))
	}
	onWorker(func(s *session) { memory, s.batch = s.batch, secret.Bytes{} }) // as if no more could be locked
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), recoveryLimit)
			defer cancel()
			_, err := loadMAC2(ctx, t, keys[1], demoPath, "7E1722D0")
			assert.ErrorIs(t, err, errBatch)
		})
	}
	group.Wait()
	assert.Contains(t, log.String(), "card keys not made")
	onWorker(func(s *session) { s.batch = memory })
	contractConcurrent(t, suite.TDES, keys[1])
	assert.Equal(t, uint64(1), token.Stats().Generation)
	rulesKept(t, control)
}

// The same of those for whom no other worker could be asked.
func TestAPanicInABatchAnswersTheRest(t *testing.T) {
	token := newToken(Config{Queue: 1, Log: slog.New(slog.DiscardHandler)})
	g := &generation{token: token, jobs: newTurns(1), down: make(chan struct{})}
	e, p := &entry{}, &parent{}
	var waiting []*request
	for range maxBatch + 1 {
		waiting = append(waiting, &request{done: make(chan struct{})})
	}
	p.batch.waiting, p.batch.queued = waiting, true
	require.NoError(t, g.postBatch(e, p))
	<-g.jobs.ready
	j := g.jobs.take()
	require.True(t, g.jobs.put(newJob(nil))) // full
	_, fault := j.run(&session{})
	require.NoError(t, fault)
	for _, r := range waiting {
		require.True(t, closed(r.done))
		require.ErrorIs(t, r.err, errBatch)
	}
	assert.False(t, p.batch.queued)
}

// A card key for somebody who left is wiped; for somebody who waits it is there before he hears of it.
func TestDeliver(t *testing.T) {
	value := bytesOf(t, loadMaster)
	r := &request{done: make(chan struct{})}
	r.gone.Store(true)
	r.deliver(value, nil)
	assert.False(t, closed(r.done))
	assert.Zero(t, r.key.Len())

	r = &request{done: make(chan struct{})}
	r.deliver(value, nil)
	require.True(t, closed(r.done))
	assert.Equal(t, value, r.key.Reveal("to compare it"))
	r.key.Wipe()
}

// One call that hangs is the cap where one may be in flight (rule 7).
func TestOneHangingCallIsTheCapOfOne(t *testing.T) {
	token, control, keys := faulty(t, func(config *Config) { hanging(config); config.InFlight = 1 })
	contractComputes(t, suite.TDES, keys[0])
	require.ErrorIs(t, hangOne(t, control, keys[0], "C_Encrypt"), ErrUnavailable)
	restarts(t, token)
	settle(t, token, control)
	rulesKept(t, control)
}

// A call that initializes the library and never comes out is bounded by the caller's context, and others are refused at once.
func TestOpenWhoseInitializeHangs(t *testing.T) {
	made, control := hsmtest.NewFaultToken(t)
	control.Set(hsmtest.Fault{Function: "C_Initialize", Hang: hsmtest.HangForever})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, configOf(made))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = Open(context.Background(), configOf(made))
	require.ErrorIs(t, err, ErrOwned)
	reopens(t, made, control)
}

// reopens lets hanging calls go and wants the module back.
func reopens(t *testing.T, made *hsmtest.Token, control *hsmtest.Control) {
	t.Helper()
	control.Clear()
	require.Eventually(t, func() bool {
		token, err := Open(context.Background(), configOf(made))
		return err == nil && token.Close() == nil
	}, recoveryLimit, tick)
	rulesKept(t, control)
}

// Close is bounded by the hang limit whatever call hangs: the keeper's, or one of its own.
func TestCloseBesideAHangingCall(t *testing.T) {
	for _, function := range []string{"C_Login", "C_Logout", "C_Finalize"} {
		t.Run(function, func(t *testing.T) {
			made, control := hsmtest.NewFaultToken(t)
			config := configOf(made)
			config.Hang = testHang
			token, err := Open(context.Background(), config)
			require.NoError(t, err)
			control.Set(hsmtest.Fault{Function: function, Hang: hsmtest.HangForever})
			if function == "C_Login" {
				end(t, token, classStale)
				require.Eventually(t, func() bool { return control.Stats().Hanging == 1 }, recoveryLimit, tick)
			}
			begin := time.Now()
			require.ErrorIs(t, token.Close(), errWrittenOff)
			assert.Less(t, time.Since(begin), recoveryLimit)
			require.Error(t, token.Close(), "twice")
			_, err = Open(context.Background(), config)
			require.ErrorIs(t, err, ErrOwned)
			reopens(t, made, control)
		})
	}
}
