package signer

import (
	"bytes"
	"context"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softreader"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
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
// What is not the module's next frame is refused, and leaves the session where it was.
// Many Seals at once get a number each, and every frame opens; two Opens of one frame take it once.
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
			want := ledger.SessionExpired
			if n == 4 { // which locked the device, and with it every session that it has
				want = ledger.CardLocked
			}
			assert.Equal(t, want, l.seal(c.SessionID, []byte{1}, false).Outcome)
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
	set := l.current.Load().sets["demo"]
	v := set.versions[keyderive.KindReader][1]
	v.State = custody.Suspended
	set.versions[keyderive.KindReader][1] = v
	assert.Equal(t, ledger.KeyNotActive, l.seal(session, []byte{1}, false).Outcome)
	assert.Equal(t, ledger.KeyNotActive, l.openFrame(session, frame).Outcome)
	assert.Equal(t, ledger.KeyNotActive, l.challenge().Outcome)
	a, own, proof := l.prove(waiting, l.module(testDevice))
	assert.Equal(t, ledger.KeyNotActive, a.Outcome)
	v.State = custody.Active
	set.versions[keyderive.KindReader][1] = v
	assert.Equal(t, ledger.KeyNotActive, l.try(waiting.SessionID, own, proof).Outcome, "it used the challenge up")
}

// The newest active version is taken where none is named.
func TestVersionsOfAReaderKey(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	set := l.current.Load().sets["demo"]
	v := set.versions[keyderive.KindReader][1]
	for number, state := range map[int]custody.KeyState{2: custody.Active, 3: custody.Deactivated} {
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
// The record tells frames by number, length and a hash of their MACs, and never holds their data, nor a key.
// A failed commit lets no frame out, and its number is not used again.
