package softcard_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// inEveryProfile runs a test for both suites, the shipped profiles, and one with the second value of every row.
func inEveryProfile(t *testing.T, run func(h *host)) {
	t.Helper()
	other, err := profile(t, purse.ProfileFMCOS).With([]byte(`{
		"name": "other", "updateData": "encrypted", "reloadPinMac": "headerAndPin", "pinUnblock": "keyId",
		"pinUnblockKeyId": "05", "externalAuthentication": "whole", "keyIndex": 3, "applicationBlockP1": "byAlgorithm"}`))
	require.NoError(t, err)
	profiles := []purse.Profile{other}
	for _, name := range purse.ShippedProfiles() {
		profiles = append(profiles, profile(t, name))
	}
	for _, alg := range both {
		for _, p := range profiles {
			t.Run(alg.String()+" "+p.Name(), func(t *testing.T) { run(newHost(t, alg, p)) })
		}
	}
}

func TestApplicationBlocks(t *testing.T) {
	inEveryProfile(t, func(h *host) {
		h.refused(purse.SWConditions, h.secure(purse.ApplicationUnblock{}))
		h.ok(h.secure(purse.ApplicationBlock{}))
		h.refused(purse.SWFunction, built(purse.QueryBalance(purse.EP)))
		h.card.Reset()
		h.choose()
		h.refused(purse.SWFunction, built(purse.InitializeForLoad(h.profile, purse.EP, 1, terminal)))
		h.ok(h.secure(purse.ApplicationUnblock{}))
		h.load(purse.EP, 1)

		_, credit := h.openLoad(purse.EP, 1)
		h.ok(h.secure(purse.ApplicationBlock{}))
		h.ok(h.secure(purse.ApplicationUnblock{}))
		h.refused(purse.SWState, credit)

		_, credit = h.openLoad(purse.EP, 1)
		h.ok(h.secure(purse.ApplicationBlock{Permanent: true}))
		h.refused(purse.SWLocked, credit)
		h.refused(purse.SWLocked, h.secure(purse.ApplicationUnblock{}))
		h.card.Reset()
		h.refused(purse.SWLocked, built(purse.SelectApplication(softcard.DefaultAID())))
	})
}

func TestCardBlock(t *testing.T) {
	inEveryProfile(t, func(h *host) {
		h.ok(h.secure(purse.CardBlock{}))
		h.card.Reset()
		for _, c := range []command{plain(purse.Challenge(h.profile)), built(purse.SelectApplication(softcard.DefaultAID())), plain(purse.ReadLog(1))} {
			h.refused(purse.SWFunction, c)
		}
	})
}

func TestPINTriesUnblockAndReload(t *testing.T) {
	inEveryProfile(t, func(h *host) {
		right, wrong := built(purse.VerifyPIN(pin(h.t, "123456"))), built(purse.VerifyPIN(pin(h.t, "654321")))
		h.ok(right)
		h.refused(purse.SWPINTries(2), wrong)
		h.ok(right)
		h.refused(purse.SWPINTries(2), wrong)
		h.card.Reset()
		h.choose()
		h.refused(purse.SWPINTries(1), built(purse.VerifyPIN(pin(h.t, "1234"))))
		h.refused(purse.SWPINTries(0), wrong)
		h.refused(purse.SWBlocked, right)

		h.refused(purse.SWData, h.secure(purse.PINUnblock{PIN: pin(h.t, "654321")}))
		h.refused(purse.SWBlocked, right)
		h.ok(h.secure(purse.PINUnblock{PIN: pin(h.t, "123456")}))
		h.refused(purse.SWPINTries(2), wrong)
		h.ok(h.reload("98765"))
		h.refused(purse.SWPINTries(2), right)
		h.ok(built(purse.VerifyPIN(pin(h.t, "98765"))))

		broken := h.reload("123456")
		broken.apdu.Data[len(broken.apdu.Data)-1] ^= 1
		h.refused(purse.SWSecureMAC, broken)
		h.ok(built(purse.VerifyPIN(pin(h.t, "98765"))))
	})
}

// The form of PIN UNBLOCK that is a MAC alone unblocks whatever the PIN.
func TestPINUnblockOfMACOnly(t *testing.T) {
	p, err := profile(t, purse.ProfilePBOC).With([]byte(`{"pinUnblock": "macOnly"}`))
	require.NoError(t, err)
	for _, alg := range both {
		h := newHost(t, alg, p)
		for range 3 {
			_, _ = h.send(built(purse.VerifyPIN(pin(t, "00"))))
		}
		h.refused(purse.SWBlocked, built(purse.VerifyPIN(pin(t, "123456"))))
		h.ok(h.secure(purse.PINUnblock{}))
		h.ok(built(purse.VerifyPIN(pin(t, "123456"))))
	}
}

// With RequirePIN loads and everything of ED wait for the PIN, purchases from EP do not, and a power cycle asks again.
func TestPINRequired(t *testing.T) {
	p := profile(t, purse.ProfilePBOC)
	o := options(t, suite.TDES, p)
	o.RequirePIN = true
	card, err := softcard.Personalise(o)
	require.NoError(t, err)
	h := &host{t, suite.TDES, p, card}
	h.choose()
	waiting := func() {
		h.refused(purse.SWConditions, plain(initialize(0x00, purse.EP, 1, 1)))
		h.refused(purse.SWConditions, plain(initialize(0x01, purse.ED, 1, 1)))
		h.refused(purse.SWConditions, plain(initialize(0x05, purse.ED, 1, 1)))
		h.refused(purse.SWConditions, plain(purse.InitializeForUpdate(p, terminal)))
	}
	waiting()
	h.buy(purse.TTIPurchaseEP, 1, 1)
	h.ok(built(purse.VerifyPIN(pin(t, "123456"))))
	h.load(purse.EP, 1)
	h.refused(purse.SWPINTries(2), built(purse.VerifyPIN(pin(t, "000000"))))
	waiting()
	h.ok(built(purse.VerifyPIN(pin(t, "123456"))))
	h.card.Reset()
	h.choose()
	waiting()
}

func TestUpdates(t *testing.T) {
	inEveryProfile(t, func(h *host) {
		h.ok(h.secure(purse.UpdateBinary{P1: 0x96, P2: 3, Data: []byte("wallet")}))
		assert.Equal(h.t, "wallet", string(h.ok(plain(purse.ReadBinary(0x16, 3, 6)))))
		assert.Len(h.t, h.ok(plain(purse.ReadBinary(0x16, 0, 0))), 20)
		h.refused(purse.SWLength, h.secure(purse.UpdateBinary{P1: 0x96, P2: 15, Data: []byte("wallet")}))
		h.refused(purse.SWNotFound, h.secure(purse.UpdateBinary{P1: 0x97, Data: []byte("wallet")}))
		h.refused(purse.SWParameters, h.secure(purse.UpdateBinary{P1: 0x16, Data: []byte("wallet")}))

		h.ok(h.secure(purse.UpdateRecord{P1: 2, P2: 0x17<<3 | 4, Data: []byte("gate 007")}))
		assert.Equal(h.t, "gate 007", string(h.ok(plain(purse.ReadRecord(0x17, 2, 8)))))
		assert.Equal(h.t, make([]byte, 8), h.ok(plain(purse.ReadRecord(0x17, 1, 8))))
		h.refused(purse.SWLength, h.secure(purse.UpdateRecord{P1: 2, P2: 0x17<<3 | 4, Data: []byte("gate")}))
		h.refused(purse.SWRecordNotFound, h.secure(purse.UpdateRecord{P1: 3, P2: 0x17<<3 | 4, Data: []byte("gate 007")}))
		h.refused(purse.SWNotFound, h.secure(purse.UpdateRecord{P1: 1, P2: 0x18<<3 | 4, Data: []byte("gate 007")}))
		h.refused(purse.SWNotFound, plain(purse.ReadRecord(0x19, 1, 8)))
		h.refused(purse.SWParameters, plain(purse.APDU{INS: 0xB2, P1: 1, P2: 0x17<<3 | 2}))
		h.refused(purse.SWNotFound, plain(purse.ReadBinary(0x14, 0, 1)))
		h.refused(purse.SWLength, plain(purse.ReadBinary(0x16, 19, 2)))
		h.refused(purse.SWParameters, plain(purse.APDU{INS: 0xB0, P1: 0x16}))
	})
}

// A secure command is good under its own challenge, once and at once (EPURSE.md §6).
func TestChallengesAreUsedOnce(t *testing.T) {
	inEveryProfile(t, func(h *host) {
		update := h.secure(purse.UpdateBinary{P1: 0x96, Data: []byte{1}})
		h.ok(update)
		h.refused(purse.SWNoChallenge, update)
		h.ok(plain(purse.Challenge(h.profile)))
		h.refused(purse.SWSecureMAC, update)

		late := h.secure(purse.UpdateBinary{P1: 0x96, Data: []byte{2}})
		h.balance(purse.EP)
		h.refused(purse.SWNoChallenge, late)

		other := purse.Challenge(h.profile)
		other.Expect = 12 - other.Expect
		h.ok(plain(other))
		h.refused(purse.SWNoChallenge, late)
		other.Expect = 5
		h.refused(purse.SWLength, plain(other))
		assert.Equal(h.t, []byte{1}, h.ok(plain(purse.ReadBinary(0x16, 0, 1))))
	})
}

// No bit of a secure command can change: not of its header, its data or its MAC.
func TestSecureCommandsAreWhole(t *testing.T) {
	for _, alg := range both {
		h := newHost(t, alg, profile(t, purse.ProfilePBOC))
		before := h.snapshot()
		for bit := range 8 * 8 {
			made := h.secure(purse.UpdateBinary{P1: 0x96, P2: 1, Data: []byte{0xAA, 0xBB}})
			if bit < 16 {
				made.apdu.P2 ^= byte(bit)
				if bit == 0 {
					made.apdu.P2 ^= 0x10
				}
			} else {
				made.apdu.Data[bit/8-2] ^= 1 << (bit % 8)
			}
			h.refused(purse.SWSecureMAC, made)
		}
		assert.Equal(t, before, h.snapshot())
	}
}

func TestAuthentication(t *testing.T) {
	inEveryProfile(t, func(h *host) {
		h.ok(h.authenticate(8))
		h.ok(h.authenticate(4))
		wrong := func() command {
			made := h.authenticate(8)
			made.apdu.Data[0] ^= 1
			return made
		}
		h.refused(purse.SWPINTries(2), wrong())
		h.ok(h.authenticate(8))
		made := h.authenticate(8)
		h.balance(purse.EP)
		h.refused(purse.SWNoChallenge, made)
		h.refused(purse.SWPINTries(2), wrong())
		h.refused(purse.SWPINTries(1), wrong())
		h.refused(purse.SWPINTries(0), wrong())
		h.refused(purse.SWBlocked, h.authenticate(8))

		challenge := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
		proof := purse.Cryptogram(h.ok(plain(purse.InternalAuthenticate(h.profile, h.alg, 0, challenge))))
		require.NoError(h.t, h.with(purse.KeyInternalAuth, func(card keyderive.Card) error {
			m, err := card.Messaging()
			require.NoError(h.t, err)
			want, err := purse.InternalCryptogram(h.profile, h.alg, challenge[:], m)
			assert.True(h.t, want.Equal(proof))
			return err
		}))
		h.ok(plain(purse.InternalAuthenticate(h.profile, h.alg, h.profile.KeyIndex(), challenge)))
		h.refused(purse.SWKeyIndex, plain(purse.InternalAuthenticate(h.profile, h.alg, 9, challenge)))
	})
}

// A card with a control key alone is personalised by WRITE KEY, and then loads and buys.
func TestPersonalisationByWriteKey(t *testing.T) {
	inEveryProfile(t, func(full *host) {
		o := options(full.t, full.alg, full.profile)
		control := o.Keys[purse.KeyControl]
		diversified := o.Keys
		o.Keys = map[purse.KeyKind][]softcard.Key{purse.KeyControl: control}
		card, err := softcard.Personalise(o)
		require.NoError(full.t, err)
		h := &host{full.t, full.alg, full.profile, card}
		h.choose()
		_, sw := h.send(built(purse.InitializeForLoad(h.profile, purse.EP, 1, terminal)))
		assert.Equal(h.t, purse.SWKeyIndex, sw)
		for _, kind := range purse.KeyKinds() {
			row, err := h.profile.KeyRow(kind)
			require.NoError(h.t, err)
			if kind.OfModule() {
				value := secret.Take(make([]byte, 16))
				h.refused(purse.SWParameters, h.secure(purse.WriteKey{Row: row, KeyValue: value}))
				continue
			}
			value := secret.Copy(diversified[kind][0].Value[:])
			h.ok(h.secure(purse.WriteKey{Row: row, KeyValue: value}))
			value.Wipe()
		}
		h.load(purse.EP, 1)
		h.buy(purse.TTIPurchaseEP, 1, 1)
		h.unload(1)
		h.overdraft(1)
		h.ok(h.secure(purse.UpdateBinary{P1: 0x96, Data: []byte{1}}))
		h.ok(h.secure(purse.PINUnblock{PIN: pin(h.t, "123456")}))
		h.ok(h.reload("98765"))
		h.ok(h.authenticate(8))

		unknown := purse.KeyRow{P1: 0x7F}
		value := secret.Take(make([]byte, 16))
		h.refused(purse.SWParameters, h.secure(purse.WriteKey{Row: unknown, KeyValue: value}))

		// Another control key takes over at once.
		row, err := h.profile.KeyRow(purse.KeyControl)
		require.NoError(h.t, err)
		h.ok(h.secure(purse.WriteKey{Row: row, KeyValue: value}))
		h.refused(purse.SWSecureMAC, h.secure(purse.WriteKey{Row: row, KeyValue: value}))
	})
}

func TestSelectAnswersThePublicData(t *testing.T) {
	h := newHost(t, suite.TDES, profile(t, purse.ProfilePBOC))
	public := "1000100010001000" + "0301" + "00003105228000001117" + "20240101" + "20491231" + "0000"
	assert.Equal(t, "6F2E"+"8409A00000000386980701"+"A521"+"9F0C1E"+public, upper(h.choose()))
	assert.Equal(t, public, upper(h.ok(plain(purse.ReadBinary(0x15, 0, 30)))))
	h.ok(plain(purse.SelectFile([2]byte{0x3F, 0x00})))
	h.refused(purse.SWState, built(purse.QueryBalance(purse.EP)))
	h.ok(plain(purse.SelectFile([2]byte{0x3F, 0x01})))
	h.balance(purse.EP)
}
