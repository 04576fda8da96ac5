package signer

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

func TestALine(t *testing.T) {
	for _, alg := range bothSuites {
		l := newTill(t, alg, "pboc-ep")
		m, session := l.line()
		for n, size := range []int{1, 7, 8, 9, 16, 17, 1000, 16384} {
			data := bytes.Repeat([]byte{byte(size), 0xA5, 0x5A}, size)[:size]
			s := l.seal(session, data, false)
			require.Equal(t, ledger.Approved, s.Outcome, s.Detail)
			assert.EqualValues(t, n+1, s.Sequence)
			got, last, err := m.Open(unhex(t, s.Frame))
			require.NoError(t, err)
			assert.Equal(t, data, got)
			assert.False(t, last)
			if size >= 16 {
				assert.NotContains(t, s.Frame, upperHex(data[:8]))
			}

			frame, err := m.Seal(data, false)
			require.NoError(t, err)
			o := l.openFrame(session, frame)
			require.Equal(t, ledger.Verified, o.Outcome, o.Detail)
			assert.Equal(t, upperHex(data), o.Data)
			assert.EqualValues(t, n+1, o.Sequence)
			if size == 9 {
				l.restart()
			}
		}
		s := l.seal(session, []byte{1}, true)
		_, last, err := m.Open(unhex(t, s.Frame))
		require.NoError(t, err)
		assert.True(t, last)
		after := l.seal(session, []byte{1}, false)
		assert.Equal(t, ledger.SessionExpired, after.Outcome)
		assert.Contains(t, after.Detail, "last frame")
		assert.Empty(t, after.Frame)

		frame, err := m.Seal([]byte{2}, true)
		require.NoError(t, err)
		o := l.openFrame(session, frame)
		assert.Equal(t, ledger.Verified, o.Outcome)
		assert.True(t, o.Last)
		assert.Equal(t, ledger.SessionExpired, l.openFrame(session, frame).Outcome, "both have sent their last: the session has ended")
		found, err := l.store.ReaderSession(t.Context(), session)
		require.NoError(t, err)
		assert.Equal(t, store.SessionEnded, found.State)
	}
}

func TestFramesThatAreNotTheNext(t *testing.T) {
	for _, alg := range bothSuites {
		l := newTill(t, alg, "pboc-ep")
		m, session := l.line()
		var frames [][]byte
		for n := range 3 {
			frame, err := m.Seal([]byte{byte(n), 1, 2, 3}, n == 2)
			require.NoError(t, err)
			frames = append(frames, frame)
		}
		refused := func(frame []byte, want ledger.Outcome) {
			t.Helper()
			o := l.openFrame(session, frame)
			assert.Equal(t, want, o.Outcome, o.Detail)
			assert.Empty(t, o.Data)
			assert.False(t, o.Last)
			assert.Equal(t, string(want), l.entries(t)[o.AuditIndex].Outcome)
		}
		taken := func(frame []byte) {
			t.Helper()
			assert.Equal(t, ledger.Verified, l.openFrame(session, frame).Outcome)
		}
		refused(frames[1], ledger.CounterConflict)
		refused(frames[2], ledger.CounterConflict)
		taken(frames[0])
		refused(frames[0], ledger.CounterStale)
		refused(frames[2], ledger.CounterConflict)
		for bit := range 8 * len(frames[1]) {
			wrong := bytes.Clone(frames[1])
			wrong[bit/8] ^= 1 << (bit % 8)
			o, err := l.Open(t.Context(), l.caller, session, upperHex(wrong))
			if err != nil {
				var field *purse.FieldError
				require.ErrorAs(t, err, &field)
				assert.Equal(t, "frame", field.Field)
				continue
			}
			require.Equal(t, ledger.MACMismatch, o.Outcome, "bit %d", bit)
			require.Empty(t, o.Data)
		}
		for cut := range frames[1] {
			_, err := l.Open(t.Context(), l.caller, session, upperHex(frames[1][:cut]))
			var field *purse.FieldError
			require.ErrorAs(t, err, &field)
			require.Equal(t, "frame", field.Field)
		}
		taken(frames[1])
		taken(frames[2])
		refused(frames[2], ledger.CounterStale)
		refused(frames[0], ledger.CounterStale)
		own := l.seal(session, []byte{1}, false)
		_, err := l.Open(t.Context(), l.caller, session, own.Frame)
		require.ErrorContains(t, err, "not a frame from the module")

		n, other := l.line()
		foreign, err := n.Seal([]byte{9}, false)
		require.NoError(t, err)
		taken2 := l.openFrame(other, foreign)
		assert.Equal(t, ledger.Verified, taken2.Outcome)
		_, third := l.line()
		assert.Equal(t, ledger.MACMismatch, l.openFrame(third, foreign).Outcome, "a frame of another session")
	}
}

func TestFramesAtOnce(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	m, session := l.line()
	frames := make([]Sealed, 40)
	var all sync.WaitGroup
	for i := range frames {
		all.Go(func() {
			var err error
			frames[i], err = l.Seal(context.Background(), l.caller, session, fmt.Sprintf("%04X", i), false)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	bySequence := map[uint32]string{}
	for _, f := range frames {
		require.Equal(t, ledger.Approved, f.Outcome, f.Detail)
		bySequence[f.Sequence] = f.Frame
	}
	require.Len(t, bySequence, len(frames))
	for sequence := range uint32(len(frames)) {
		_, _, err := m.Open(unhex(t, bySequence[sequence+1]))
		require.NoError(t, err)
	}
	frame, err := m.Seal([]byte{1}, false)
	require.NoError(t, err)
	outcomes := make([]ledger.Outcome, 20)
	for i := range outcomes {
		all.Go(func() {
			o, err := l.Open(context.Background(), l.caller, session, upperHex(frame))
			assert.NoError(t, err)
			outcomes[i] = o.Outcome
			assert.Equal(t, o.Outcome == ledger.Verified, o.Data == "01")
		})
	}
	all.Wait()
	counted := map[ledger.Outcome]int{}
	for _, o := range outcomes {
		counted[o]++
	}
	assert.Equal(t, map[ledger.Outcome]int{ledger.Verified: 1, ledger.CounterStale: 19}, counted)
}

func TestTheBudgetOfASession(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	m, session := l.line()
	spend := func(change func(*store.ReaderSession)) {
		require.NoError(t, l.store.Commit(t.Context(), store.Change{Session: session, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
			change(p.Session())
			return nil, nil
		}}))
	}
	spend(func(s *store.ReaderSession) { s.Sent.Blocks, s.Received.Blocks = 1<<20-3, 1<<20-3 })
	over := l.seal(session, make([]byte, 9), false)
	assert.Equal(t, ledger.SessionExpired, over.Outcome)
	assert.Contains(t, over.Detail, "as much as they may")
	s := l.seal(session, make([]byte, 8), false)
	assert.Equal(t, ledger.Approved, s.Outcome)
	assert.Equal(t, ledger.SessionExpired, l.seal(session, make([]byte, 1), false).Outcome)
	for _, want := range []ledger.Outcome{ledger.Verified, ledger.SessionExpired} {
		frame, err := m.Seal(make([]byte, 8), false)
		require.NoError(t, err)
		assert.Equal(t, want, l.openFrame(session, frame).Outcome)
	}
	spend(func(s *store.ReaderSession) { s.Sent = store.Direction{Sequence: 1<<32 - 2} })
	assert.EqualValues(t, uint32(1<<32-1), l.seal(session, []byte{1}, false).Sequence)
	assert.Equal(t, ledger.SessionExpired, l.seal(session, []byte{1}, false).Outcome)
}

func TestTheRecordHoldsNoData(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	m, session := l.line()
	data := []byte("a secret of 24 bytes ...")
	s := l.seal(session, data, false)
	frame, err := m.Seal(data, true)
	require.NoError(t, err)
	o := l.openFrame(session, frame)
	require.Equal(t, ledger.Verified, o.Outcome)
	var text strings.Builder
	require.NoError(t, l.store.Entries(t.Context(), 0, func(_ uint64, line []byte) bool { text.Write(line); return true }))
	record := strings.ToUpper(text.String())
	for _, secret := range [][]byte{data, data[:8], unhex(t, s.Frame)[9:17], frame[9:17], unhex(t, s.Frame)[33:], frame[33:]} {
		assert.NotContains(t, record, upperHex(secret))
		assert.NotContains(t, text.String(), string(secret))
	}
	e := l.entries(t)
	assert.Equal(t, audit.Inputs{Device: testDevice, Sequence: 1, Length: 24, FrameDigest: frameDigest(unhex(t, s.Frame)[33:])}, e[s.AuditIndex].Inputs)
	assert.Equal(t, audit.Inputs{Device: testDevice, Sequence: 1, Length: 24, Last: true, FrameDigest: frameDigest(frame[33:])}, e[o.AuditIndex].Inputs)
}

func TestAFailedCommitLetsNoFrameOut(t *testing.T) {
	var faulty *saleFaults
	l := newTill(t, suite.TDES, "pboc-ep", func(c *Config) {
		faulty = &saleFaults{Store: c.Store}
		c.Store = faulty
	})
	_, session := l.line()
	for n, want := range []uint32{1, 2} { // the number's commit, the entry's
		faulty.left = n + 1
		s, err := l.Seal(t.Context(), l.caller, session, "00", false)
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.Empty(t, s)
		faulty.left = 0
		assert.Equal(t, want+uint32(n), l.seal(session, []byte{1}, false).Sequence)
	}
}
