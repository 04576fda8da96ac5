package softcard_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// changes is every command that changes what a card keeps; each prepares a card and returns the command that is torn.
func changes(key secret.Bytes) map[string]func(h *host) command {
	return map[string]func(h *host) command{
		"credit for load": func(h *host) command { _, c := h.openLoad(purse.EP, 100); return c },
		"credit after others": func(h *host) command { // onto a log that has records and room for more
			for range 3 {
				h.load(purse.ED, 1)
			}
			_, c := h.openLoad(purse.EP, 100)
			return c
		},
		"debit for unload":     func(h *host) command { _, c := h.openUnload(100); return c },
		"update overdraft":     func(h *host) command { _, c := h.openOverdraft(100); return c },
		"purchase":             func(h *host) command { _, c := h.openPurchase(purse.TTIPurchaseEP, 1, 100); return c },
		"cash withdrawal":      func(h *host) command { _, c := h.openPurchase(purse.TTICashWithdrawal, 1, 100); return c },
		"compound":             func(h *host) command { _, c := h.openPurchase(purse.TTICompound, 1, 100); return c },
		"card block":           func(h *host) command { return h.secure(purse.CardBlock{}) },
		"application block":    func(h *host) command { return h.secure(purse.ApplicationBlock{}) },
		"application block 01": func(h *host) command { return h.secure(purse.ApplicationBlock{Permanent: true}) },
		"application unblock": func(h *host) command {
			h.ok(h.secure(purse.ApplicationBlock{}))
			return h.secure(purse.ApplicationUnblock{})
		},
		"pin unblock": func(h *host) command {
			h.refused(purse.SWPINTries(2), built(purse.VerifyPIN(pin(h.t, "00"))))
			return h.secure(purse.PINUnblock{PIN: pin(h.t, "123456")})
		},
		"reload pin":    func(h *host) command { return h.reload("9876") },
		"update binary": func(h *host) command { return h.secure(purse.UpdateBinary{P1: 0x96, Data: []byte("torn?")}) },
		"update record": func(h *host) command {
			return h.secure(purse.UpdateRecord{P1: 1, P2: 0x17<<3 | 4, Data: []byte("gate 042")})
		},
		"write key": func(h *host) command {
			row, err := h.profile.KeyRow(purse.KeyLoad)
			require.NoError(h.t, err)
			return h.secure(purse.WriteKey{Row: row, KeyValue: key})
		},
	}
}

// Power may go at any step of a command: the card is then as before it or as after it, and from one step on always as
// after. Whatever happened, the card goes on.
func TestPowerLostAtEveryStep(t *testing.T) {
	key := secret.Take(make([]byte, 16))
	defer key.Wipe()
	for name, prepare := range changes(key) {
		for _, alg := range both {
			t.Run(name+" "+alg.String(), func(t *testing.T) {
				whole := newHost(t, alg, profile(t, purse.ProfilePBOC))
				last := prepare(whole)
				before := whole.snapshot()
				whole.ok(last)
				after := whole.snapshot()
				require.NotEqual(t, before, after)
				steps := whole.card.Steps()
				require.Greater(t, steps, 3)

				changed := 0
				for step := 1; step <= steps; step++ {
					h := newHost(t, alg, profile(t, purse.ProfilePBOC))
					last := prepare(h)
					require.Equal(t, before, h.snapshot(), "the run is the same each time")
					h.card.TearAt(step)
					require.Nil(t, h.card.Transmit(last.apdu.Bytes()), "step %d of %d", step, steps)
					if now := h.snapshot(); now == before {
						assert.Zero(t, changed, "step %d undid the change", step)
					} else {
						assert.Equal(t, after, now, "step %d left something between", step)
						changed++
					}
					assert.NotEqual(t, "9000", upper(h.card.Transmit(last.apdu.Bytes()))[:4], "no session outlives the power")
					h.continues()
				}
				assert.Equal(t, 2, changed, "the change is there just after it was made, and when the answer is lost; never sooner")
			})
		}
	}
}

// continues: after a power cycle the card takes the next transaction, unless it was blocked, and proves the one before.
func (h *host) continues() {
	h.t.Helper()
	_, sw := h.send(built(purse.SelectApplication(softcard.DefaultAID())))
	if sw != purse.SWOK {
		assert.Contains(h.t, []purse.SW{purse.SWFunction, purse.SWLocked}, sw)
		return
	}
	answer, sw := h.send(built(purse.InitializeForPurchase(h.profile, purse.TTIPurchaseEP, 1, terminal)))
	if sw == purse.SWOK {
		_, err := purse.ParsePurchaseInit(answer)
		require.NoError(h.t, err)
		h.buy(purse.TTIPurchaseEP, 77, 1)
		return
	}
	assert.Equal(h.t, purse.SWFunction, sw, "blocked")
}

// A load whose answer was lost is settled by what the card proves (EPURSE.md §5.5).
func TestLostAnswerIsProved(t *testing.T) {
	for _, alg := range both {
		h := newHost(t, alg, profile(t, purse.ProfilePBOC))
		load, credit := h.openLoad(purse.EP, 100)
		h.ok(credit)
		steps := h.card.Steps()

		for step := 1; step <= steps; step++ {
			h := newHost(t, alg, profile(t, purse.ProfilePBOC))
			_, credit := h.openLoad(purse.EP, 100)
			h.card.TearAt(step)
			require.Nil(t, h.card.Transmit(credit.apdu.Bytes()))
			h.choose()
			prove := built(purse.TransactionProve(purse.TTILoadEP, 7))
			if h.balance(purse.EP) == 1000 {
				h.refused(purse.SWNoProve, prove)
				continue
			}
			answer, err := purse.ParseProveAnswer(h.ok(prove))
			require.NoError(t, err)
			h.verifyTAC(load.TACData(date, clock), answer.TAC[:])
			assert.Equal(t, purse.Fen(1100), h.balance(purse.EP))
		}
	}
}

// Cutting the power saves no try: a wrong PIN that was compared has cost one.
func TestPowerCutsSaveNoTries(t *testing.T) {
	right, wrong := pin(t, "123456"), pin(t, "111111")
	for name, guess := range map[string]struct {
		pin  purse.PIN
		left []purse.SW // after the torn try, what a wrong PIN answers next
	}{
		"wrong": {wrong, []purse.SW{purse.SWPINTries(2), purse.SWPINTries(1)}},
		"right": {right, []purse.SW{purse.SWPINTries(2), purse.SWPINTries(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, both[0], profile(t, purse.ProfilePBOC))
			_, _ = h.send(built(purse.VerifyPIN(guess.pin)))
			steps := h.card.Steps()
			require.Greater(t, steps, 3)
			for step := 1; step <= steps; step++ {
				h := newHost(t, both[0], profile(t, purse.ProfilePBOC))
				a, err := purse.VerifyPIN(guess.pin)
				require.NoError(t, err)
				h.card.TearAt(step)
				require.Nil(t, h.card.Transmit(a.Bytes()))
				h.choose()
				_, sw := h.send(built(purse.VerifyPIN(wrong)))
				assert.Contains(t, guess.left, sw)
				if name == "wrong" && step > 2 {
					assert.Equal(t, purse.SWPINTries(1), sw, "step %d: the try was spent before the comparison", step)
				}
			}
		})
	}
}

func TestTearIsForOneCommand(t *testing.T) {
	h := newHost(t, both[0], profile(t, purse.ProfilePBOC))
	h.card.TearAt(100)
	h.balance(purse.EP)
	h.load(purse.EP, 1)
	h.card.TearAt(1)
	h.card.TearAt(0)
	h.balance(purse.EP)
	h.card.TearAt(1)
	a, err := purse.QueryBalance(purse.EP)
	require.NoError(t, err)
	_, _, err = h.card.Send(a)
	require.EqualError(t, err, "softcard: power lost")
	h.refused(purse.SWState, built(a, nil))
}
