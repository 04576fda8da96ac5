package signer

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softreader"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

const testDevice = "0000202600000017"

var bothSuites = []suite.Algorithm{suite.TDES, suite.SM4}

// module is the module of a device number, with the key that its maker put in.
func (l *till) module(number string) *softreader.Module {
	l.t.Helper()
	device := [8]byte(unhex(l.t, number))
	key, err := softreader.Diversify(l.alg, [16]byte(tillMasters[keyderive.KindReader]), [8]byte(unhex(l.t, "1000100010001000")), device)
	require.NoError(l.t, err)
	return l.moduleWith(device, key)
}

func (l *till) moduleWith(device [8]byte, key [16]byte) *softreader.Module {
	l.t.Helper()
	m, err := softreader.New(softreader.Options{Algorithm: l.alg, Number: device, Key: key, Random: rand.NewChaCha8([32]byte{7})})
	require.NoError(l.t, err)
	return m
}

func (l *till) challenge() Challenged {
	l.t.Helper()
	c, err := l.Challenge(context.Background(), l.caller, "demo", testDevice, 0)
	require.NoError(l.t, err)
	return c
}

// prove has a module answer a challenge.
func (l *till) prove(c Challenged, m *softreader.Module) (Authenticated, string, string) {
	l.t.Helper()
	own, proof, err := m.Answer([8]byte(unhex(l.t, c.Challenge)))
	require.NoError(l.t, err)
	return l.try(c.SessionID, upperHex(own[:]), upperHex(proof[:])), upperHex(own[:]), upperHex(proof[:])
}

func (l *till) try(session, challenge, proof string) Authenticated {
	l.t.Helper()
	a, err := l.Authenticate(context.Background(), l.caller, session, challenge, proof)
	require.NoError(l.t, err)
	return a
}

// line opens a session with the right module.
func (l *till) line() (*softreader.Module, string) {
	l.t.Helper()
	m, c := l.module(testDevice), l.challenge()
	require.Equal(l.t, ledger.Approved, c.Outcome, c.Detail)
	a, _, _ := l.prove(c, m)
	require.Equal(l.t, ledger.Verified, a.Outcome, a.Detail)
	require.NoError(l.t, m.Accept([8]byte(unhex(l.t, a.HostProof))))
	return m, c.SessionID
}

func (l *till) seal(session string, data []byte, last bool) Sealed {
	l.t.Helper()
	s, err := l.Seal(context.Background(), l.caller, session, upperHex(data), last)
	require.NoError(l.t, err)
	return s
}

func (l *till) openFrame(session string, frame []byte) Opened {
	l.t.Helper()
	o, err := l.Open(context.Background(), l.caller, session, hex.EncodeToString(frame))
	require.NoError(l.t, err)
	return o
}

// restart puts a new signer on the same database.
func (l *till) restart() {
	l.t.Helper()
	require.NoError(l.t, l.bench.store.Close())
	l.bench.open(l.t, func(c *Config) { c.KeySets, c.Policy = []KeySet{l.set}, tillPolicy(l.t, 0) })
	l.reopenAs(readerIdentity)
}

// Frames go both ways, of every size and over a new start of the signer, to the last of each.
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

// What is not the module's next frame is refused, and leaves the session where it was.
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

// Many Seals at once get a number each, and every frame opens; two Opens of one frame take it once.
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

// A stolen device number is worth nothing: without the key of the device no try is right, and the tries lock the device.
func TestAStolenDeviceNumberIsWorthNothing(t *testing.T) {
	for _, alg := range bothSuites {
		l := newTill(t, alg, "pboc-ep")
		other, err := softreader.Diversify(alg, [16]byte(tillMasters[keyderive.KindReader]),
			[8]byte(unhex(t, "1000100010001000")), [8]byte(unhex(t, "0000202600000018")))
		require.NoError(t, err)
		thief := l.moduleWith([8]byte(unhex(t, testDevice)), other) // a real module's key, of another number
		for n := range 5 {
			c := l.challenge()
			a, own, proof := l.prove(c, thief)
			assert.Equal(t, ledger.MACMismatch, a.Outcome)
			assert.Empty(t, a.HostProof)
			assert.Equal(t, a, l.try(c.SessionID, own, proof), "the same try again, which counts once")
			assert.Equal(t, ledger.SessionExpired, l.seal(c.SessionID, []byte{1}, false).Outcome)
			assert.Equal(t, n == 4, len(l.alarms(t)) == 1)
		}
		assert.Equal(t, []audit.Event{audit.CardLocked}, l.alarms(t))
		locked := l.challenge()
		assert.Equal(t, ledger.CardLocked, locked.Outcome)
		assert.Empty(t, locked.SessionID+locked.Challenge)
		assert.Contains(t, locked.Detail, "officer")

		u, err := l.UnlockCard(t.Context(), l.officer(t), "demo", "READER-"+testDevice, "", "the thief was caught")
		require.NoError(t, err)
		assert.True(t, u.WasLocked)
		l.line()
		_, err = l.UnlockCard(t.Context(), l.officer(t), "demo", "READER-17", "", "why")
		require.ErrorContains(t, err, "cardSerial: 1 bytes, expected 8")
		_, err = l.UnlockCard(t.Context(), l.officer(t), "demo", "READER-"+testDevice, testDevice, "why")
		require.ErrorContains(t, err, "issuerId")
		u, err = l.UnlockCard(t.Context(), l.officer(t), "demo", testDevice, "", "a card of that number is another thing")
		require.NoError(t, err)
		assert.False(t, u.WasLocked)
	}
}

// A device that was locked while its challenge was out is not let in, though its proof is right.
func TestALockMeetsAnOpenChallenge(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	waiting := l.challenge()
	thief := l.moduleWith([8]byte(unhex(t, testDevice)), [16]byte{1})
	for range 5 {
		l.prove(l.challenge(), thief)
	}
	a, _, _ := l.prove(waiting, l.module(testDevice))
	assert.Equal(t, ledger.CardLocked, a.Outcome)
	assert.Empty(t, a.HostProof)
}

// A right proof forgets the wrong ones before it.
func TestARightProofForgetsWrongOnes(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	thief := l.moduleWith([8]byte(unhex(t, testDevice)), [16]byte{1})
	for range 3 {
		for range 4 {
			l.prove(l.challenge(), thief)
		}
		l.line()
	}
	assert.Empty(t, l.alarms(t))
}

// A challenge is good for one try: the same again gets the same, another one nothing, a late one nothing.
func TestAChallengeIsUsedOnce(t *testing.T) {
	l := newTill(t, suite.SM4, "pboc-ep")
	c := l.challenge()
	m := l.module(testDevice)
	a, own, proof := l.prove(c, m)
	require.Equal(t, ledger.Verified, a.Outcome)
	assert.Equal(t, l.clock.Add(DefaultSessionLife), a.ExpiresAt)
	assert.Equal(t, a, l.try(c.SessionID, own, proof))
	assert.Equal(t, a, l.try(c.SessionID, strings.ToLower(own), proof))
	other := l.try(c.SessionID, own, falsified(proof))
	assert.Equal(t, ledger.SessionExpired, other.Outcome)
	assert.Empty(t, other.HostProof)
	assert.Equal(t, a, l.try(c.SessionID, own, proof), "another try changes nothing")

	wrong := l.challenge()
	b, own, proof := l.prove(wrong, l.moduleWith([8]byte{}, [16]byte{}))
	require.Equal(t, ledger.MACMismatch, b.Outcome)
	right, _, _ := l.prove(wrong, l.module(testDevice))
	assert.Equal(t, ledger.SessionExpired, right.Outcome, "the wrong one used it up")
	assert.Equal(t, b, l.try(wrong.SessionID, own, proof))

	late := l.challenge()
	assert.Equal(t, l.clock.Add(DefaultChallengeLife), late.ExpiresAt)
	l.clock = late.ExpiresAt.Add(time.Microsecond)
	d, own, proof := l.prove(late, l.module(testDevice))
	assert.Equal(t, ledger.SessionExpired, d.Outcome)
	l.clock = l.clock.Add(-time.Hour)
	assert.Equal(t, ledger.SessionExpired, l.try(late.SessionID, own, proof).Outcome, "though the clock went back")
}

// Many different tries at once: one of them is the try.
func TestTriesAtOnce(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	c := l.challenge()
	m := l.module(testDevice)
	verified := make([]bool, 30)
	var all sync.WaitGroup
	for i := range verified {
		own, proof, err := m.Answer([8]byte(unhex(t, c.Challenge)))
		require.NoError(t, err)
		all.Go(func() {
			a, err := l.Authenticate(context.Background(), l.caller, c.SessionID, upperHex(own[:]), upperHex(proof[:]))
			assert.NoError(t, err)
			verified[i] = a.Outcome == ledger.Verified
		})
	}
	all.Wait()
	count := 0
	for _, v := range verified {
		if v {
			count++
		}
	}
	assert.Equal(t, 1, count)
}

// A session ends by the clock, and by its key.
func TestASessionEnds(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep", func(c *Config) { c.SessionLife, c.ChallengeLife = time.Hour, time.Minute })
	m, session := l.line()
	frame, err := m.Seal([]byte{1}, false)
	require.NoError(t, err)
	l.clock = l.clock.Add(time.Hour + time.Microsecond)
	assert.Equal(t, ledger.SessionExpired, l.seal(session, []byte{1}, false).Outcome)
	assert.Equal(t, ledger.SessionExpired, l.openFrame(session, frame).Outcome)
	assert.Equal(t, ledger.SessionExpired, l.openFrame(session, append(bytes.Clone(frame[:len(frame)-1]), 0)).Outcome)

	_, session = l.line()
	waiting := l.challenge()
	set := l.keySets["demo"]
	v := set.versions[keyderive.KindReader][1]
	v.State = Suspended
	set.versions[keyderive.KindReader][1] = v
	assert.Equal(t, ledger.KeyNotActive, l.seal(session, []byte{1}, false).Outcome)
	assert.Equal(t, ledger.KeyNotActive, l.openFrame(session, frame).Outcome)
	assert.Equal(t, ledger.KeyNotActive, l.challenge().Outcome)
	a, own, proof := l.prove(waiting, l.module(testDevice))
	assert.Equal(t, ledger.KeyNotActive, a.Outcome)
	v.State = Active
	set.versions[keyderive.KindReader][1] = v
	assert.Equal(t, ledger.KeyNotActive, l.try(waiting.SessionID, own, proof).Outcome, "it used the challenge up")
}

// The newest active version is taken where none is named.
func TestVersionsOfAReaderKey(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	set := l.keySets["demo"]
	v := set.versions[keyderive.KindReader][1]
	for number, state := range map[int]KeyState{2: Active, 3: Deactivated} {
		v.Number, v.State = number, state
		set.versions[keyderive.KindReader][number] = v
	}
	for asked, want := range map[uint32]int{0: 2, 1: 1, 2: 2} {
		c, err := l.Challenge(t.Context(), l.caller, "demo", testDevice, asked)
		require.NoError(t, err)
		assert.Equal(t, want, c.Key.Version)
		assert.Equal(t, ledger.Approved, c.Outcome)
	}
	for _, none := range []uint32{3, 4} {
		c, err := l.Challenge(t.Context(), l.caller, "demo", testDevice, none)
		require.NoError(t, err)
		assert.Equal(t, ledger.KeyNotActive, c.Outcome)
		assert.Equal(t, "reader", c.Key.Kind)
		assert.EqualValues(t, none, c.Key.Version)
	}
}

// A session is its client's: another reader of the same key set is denied, and the record says so.
func TestASessionIsItsClients(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	m, session := l.line()
	frame, err := m.Seal([]byte{1}, false)
	require.NoError(t, err)
	l.reopenAs("spiffe://pursekeeper.test/other-reader")
	for name, use := range map[string]func() error{
		"authenticate": func() error {
			_, err := l.Authenticate(t.Context(), l.caller, session, testDevice, testDevice)
			return err
		},
		"seal": func() error { _, err := l.Seal(t.Context(), l.caller, session, "00", false); return err },
		"open": func() error { _, err := l.Open(t.Context(), l.caller, session, upperHex(frame)); return err },
	} {
		var denied *policy.Denied
		require.ErrorAs(t, use(), &denied, name)
		entries := l.entries(t)
		last := entries[len(entries)-1]
		assert.Equal(t, []string{"PERMISSION_DENIED", "other-reader", session}, []string{last.Outcome, last.Client, last.Session}, name)
	}
}

// A key set whose issuer factor comes from the card has no keys of readers: no request may shorten its levels.
func TestNoReadersWhereTheCardGivesTheIssuer(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep", func(c *Config) { c.KeySets[0].Issuer = Issuer{FromCard: true} })
	_, err := l.Challenge(t.Context(), l.caller, "demo", testDevice, 0)
	var field *purse.FieldError
	require.ErrorAs(t, err, &field)
	assert.Equal(t, "keySet", field.Field)
}

// The keys of a 3DES direction protect 8 MiB, and no more.
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

// The record tells frames by number, length and a hash of their MACs, and never holds their data, nor a key.
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

// A failed commit lets no frame out, and its number is not used again.
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
