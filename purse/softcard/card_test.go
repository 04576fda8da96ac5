package softcard_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

func TestPersonaliseRefuses(t *testing.T) {
	for want, change := range map[string]func(*softcard.Options){
		"algorithm: invalid":                       func(o *softcard.Options) { o.Algorithm = 0 },
		"profile: missing":                         func(o *softcard.Options) { o.Profile = purse.Profile{} },
		"cardSerial: 0 hex digits":                 func(o *softcard.Options) { o.Serial = "" },
		"aid: 4 bytes, expected 5 to 16":           func(o *softcard.Options) { o.AID = make([]byte, 4) },
		"random: missing":                          func(o *softcard.Options) { o.Random = nil },
		"overdraft: only ED":                       func(o *softcard.Options) { o.EP.Overdraft = 1 },
		"overdraft: only ED has a limit":           func(o *softcard.Options) { o.ED.Overdraft = purse.MaxLimit + 1 },
		`keys: unknown kind "loads"`:               func(o *softcard.Options) { o.Keys["loads"] = []softcard.Key{{}} },
		`keys: unknown kind "reader"`:              func(o *softcard.Options) { o.Keys[purse.KeyReader] = []softcard.Key{{}} },
		"keys: two load keys with index 01":        func(o *softcard.Options) { o.Keys[purse.KeyLoad] = []softcard.Key{{Index: 1}, {Index: 1}} },
		"binaries: file 15 of 1 bytes":             func(o *softcard.Options) { o.Binaries[0x15] = []byte{1} },
		"binaries: file 1F of 1 bytes":             func(o *softcard.Options) { o.Binaries[0x1F] = []byte{1} },
		"records: file 18":                         func(o *softcard.Options) { o.Records[0x18] = nil },
		"records: file 16":                         func(o *softcard.Options) { o.Records[0x16] = nil },
		"records: file 17, record 1 of 0 bytes":    func(o *softcard.Options) { o.Records[0x17][0] = nil },
		"alg: card profile strict does not accept": func(o *softcard.Options) { o.Profile = strict(t) },
	} {
		o := options(t, suite.TDES, profile(t, purse.ProfilePBOC))
		change(&o)
		_, err := softcard.Personalise(o)
		require.ErrorContains(t, err, want)
	}
}

func strict(t *testing.T) purse.Profile {
	p, err := purse.ParseProfile([]byte(`{"name": "strict", "algByte": ["01"]}`))
	require.NoError(t, err)
	return p
}

// A card answers the version and the algorithm byte that it was given, under the key index that was asked for.
func TestKeyVersionsAndIndexes(t *testing.T) {
	o := options(t, suite.TDES, strict(t))
	o.ALG = 1
	old := o.Keys[purse.KeyLoad][0].Value
	factor, err := purse.ParseCardSerial(serial)
	require.NoError(t, err)
	newer, err := softcard.Diversify(suite.TDES, softcard.KeyValue{1, 2, 3}, issuer, factor)
	require.NoError(t, err)
	o.Keys[purse.KeyLoad] = []softcard.Key{{Index: 1, Version: 5, Value: old}, {Index: 2, Version: 6, Value: newer}}
	tac := o.Keys[purse.KeyTAC][0].Value
	o.Keys[purse.KeyTAC] = []softcard.Key{{Index: 2, Version: 6, Value: newer}, {Index: 1, Version: 5, Value: tac}}
	card, err := softcard.Personalise(o)
	require.NoError(t, err)
	h := &host{t, suite.TDES, o.Profile, card}
	h.choose()
	h.load(purse.EP, 1) // its TAC is under the TAC key of version 5, the host's own
	for index, version := range map[byte]purse.KVER{1: 5, 2: 6} {
		init, err := purse.ParseLoadInit(h.ok(plain(initialize(0x00, purse.EP, index, 1))))
		require.NoError(t, err)
		assert.Equal(t, version, init.KVER)
		assert.Equal(t, purse.ALG(1), init.ALG)
	}
	_, err = softcard.Diversify(0, softcard.KeyValue{}, issuer)
	require.Error(t, err)
	_, err = softcard.CardKeys(0, softcard.TestOnlyMasters(), 1, issuer)
	require.Error(t, err)
}

// A card in a file is the card: with its money, counters, log and proves, and without its session.
func TestSnapshotAndRestore(t *testing.T) {
	for _, alg := range both {
		h := newHost(t, alg, profile(t, purse.ProfileTransport))
		h.load(purse.EP, 100)
		h.buy(purse.TTICompound, 1, 30)
		h.overdraft(50)
		_, credit := h.openLoad(purse.EP, 1)
		snapshot := h.snapshot()
		restored, err := softcard.Restore([]byte(snapshot), &counting{0x01020304})
		require.NoError(t, err)
		again := &host{t, alg, h.profile, restored}
		assert.Equal(t, snapshot, again.snapshot())
		again.refused(purse.SWState, credit)
		again.choose()
		assert.Equal(t, purse.Fen(1070), again.balance(purse.EP))
		again.ok(built(purse.TransactionProve(purse.TTILoadEP, 7)))
		again.load(purse.EP, 5)
		again.buy(purse.TTIPurchaseEP, 2, 5)
		assert.Equal(t, snapshot, h.snapshot(), "two cards of one snapshot share nothing")
		h.ok(credit)
	}
}

func TestRestoreRefuses(t *testing.T) {
	h := newHost(t, suite.TDES, profile(t, purse.ProfilePBOC))
	h.load(purse.EP, 1)
	good := h.snapshot()
	var fields map[string]any
	for name, value := range map[string]any{
		"format": "other", "algorithm": "AES", "lock": 3, "pinTries": 4, "controlTries": -1, "testPin": "ZZ", "aid": "00",
		"log": []string{"00"}, "proves": map[string]any{"2": map[string]any{"sn": 1, "mac": "00", "tac": "00"}},
		"binaries": map[string]string{}, "unknown": 1, "profile": map[string]any{"name": "x"},
		"testKeys": []map[string]any{{"kind": "load", "index": 1, "version": 1, "value": "00"}},
		"ep":       map[string]any{"balance": 1, "overdraft": 1, "online": 1, "offline": 1},
	} {
		require.NoError(t, json.Unmarshal([]byte(good), &fields))
		fields[name] = value
		bad, err := json.Marshal(fields)
		require.NoError(t, err)
		_, err = softcard.Restore(bad, newCounting())
		require.ErrorContains(t, err, "softcard snapshot: ", name)
		delete(fields, "unknown")
	}
	for _, text := range []string{"", "{}", "null", good + good} {
		_, err := softcard.Restore([]byte(text), newCounting())
		require.Error(t, err)
	}
	_, err := softcard.Restore([]byte(good), nil)
	require.ErrorContains(t, err, "random: missing")
}

// Neither a card, its options nor its keys print a key or a PIN.
func TestCardsPrintNoKeys(t *testing.T) {
	o := options(t, suite.TDES, profile(t, purse.ProfilePBOC))
	card, err := softcard.Personalise(o)
	require.NoError(t, err)
	type holder struct{ card *softcard.Card }
	value := o.Keys[purse.KeyLoad][0].Value
	for _, shown := range []any{card, o, holder{card}, o.Keys, value} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d"} {
			out := strings.ToLower(fmt.Sprintf(verb, shown))
			assert.NotContains(t, out, strings.ToLower(upper(value[:4])), verb)
			assert.NotContains(t, out, fmt.Sprintf("%d %d %d", value[0], value[1], value[2]), verb)
			assert.NotContains(t, out, fmt.Sprintf("0x%x, 0x%x", value[0], value[1]), verb)
			assert.NotContains(t, out, "123456", verb)
		}
	}
	assert.Equal(t, "softcard 00003105228000001117", fmt.Sprint(card))
	encoded, err := json.Marshal(o.Keys)
	require.NoError(t, err)
	assert.NotContains(t, strings.ToUpper(string(encoded)), upper(value[:4]))
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

// A card without randomness is broken: 6F00, and no session.
func TestCardWithoutRandomness(t *testing.T) {
	o := options(t, suite.TDES, profile(t, purse.ProfilePBOC))
	o.Random = failing{}
	card, err := softcard.Personalise(o)
	require.NoError(t, err)
	h := &host{t, suite.TDES, o.Profile, card}
	h.choose()
	h.refused(purse.SWFault, plain(initialize(0x00, purse.EP, 1, 1)))
	h.refused(purse.SWFault, plain(purse.Challenge(o.Profile)))
	h.refused(purse.SWState, plain(purse.CreditForLoad(o.Profile, date, clock, purse.MAC{})))
}

// Money is conserved whatever happens: torn, refused or done. Counters only rise, by one for each transaction that the
// card took.
func TestMoneyIsConserved(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		alg := rapid.SampledFrom(both).Draw(r, "alg")
		h := newHost(t, alg, profile(t, purse.ProfilePBOC))
		balance, online, offline := int64(1000), 0, 0
		for range rapid.IntRange(1, 12).Draw(r, "commands") {
			amount := purse.Fen(rapid.Uint32Range(0, 600).Draw(r, "amount"))
			var last command
			load := rapid.Bool().Draw(r, "load")
			if load {
				_, last = h.openLoad(purse.EP, amount)
			} else {
				if int64(amount) > balance {
					h.refused(purse.SWBalance, plain(initialize(0x01, purse.EP, 1, amount)))
					continue
				}
				_, last = h.openPurchase(purse.TTIPurchaseEP, 1, amount)
			}
			h.card.TearAt(rapid.IntRange(0, 9).Draw(r, "tear"))
			answer := h.card.Transmit(last.apdu.Bytes())
			if answer == nil {
				h.choose()
			}
			before := balance
			balance = int64(h.balance(purse.EP))
			moved := balance != before || amount == 0 && (answer != nil)
			if answer != nil {
				require.True(r, moved)
			}
			switch {
			case amount == 0 && answer == nil: // whether it was taken shows in the counter alone
				online, offline = counters(h)
			case moved && load:
				require.Equal(r, before+int64(amount), balance)
				online++
			case moved:
				require.Equal(r, before-int64(amount), balance)
				offline++
			}
			gotOnline, gotOffline := counters(h)
			require.Equal(r, []int{online, offline}, []int{gotOnline, gotOffline})
		}
	})
}

// counters are how many transactions EP's counters have counted.
func counters(h *host) (online, offline int) {
	h.t.Helper()
	load, err := purse.ParseLoadInit(h.ok(plain(initialize(0x00, purse.EP, 1, 0))))
	require.NoError(h.t, err)
	buy, err := purse.ParsePurchaseInit(h.ok(plain(initialize(0x01, purse.EP, 1, 0))))
	require.NoError(h.t, err)
	return int(load.Counter) - 7, int(buy.Counter) - 0x12
}

// Whatever bytes come, the card answers a status word, and stays a card that can be restored.
func FuzzTransmit(f *testing.F) {
	f.Fuzz(func(t *testing.T, alg bool, apdus []byte) {
		chosen := suite.TDES
		if alg {
			chosen = suite.SM4
		}
		h := newHost(t, chosen, profile(t, purse.ProfilePBOC))
		for len(apdus) > 0 { // each command is its length and its bytes
			n := min(int(apdus[0]), len(apdus)-1)
			answer := h.card.Transmit(apdus[1 : 1+n])
			apdus = apdus[1+n:]
			require.GreaterOrEqual(t, len(answer), 2)
		}
		_, err := softcard.Restore([]byte(h.snapshot()), newCounting())
		require.NoError(t, err)
	})
}

// A fuzz target that starts from nothing tests nothing in a short run.
func TestFuzzTransmitHasSeeds(t *testing.T) {
	seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", "FuzzTransmit"))
	require.NoError(t, err)
	assert.NotEmpty(t, seeds)
}

// What a person sees of a card without a command: everything that an engineer asks for, and neither key nor PIN.
func TestCondition(t *testing.T) {
	for _, alg := range both {
		h := newHost(t, alg, profile(t, purse.ProfilePBOC))
		assert.Equal(t, alg, h.card.Algorithm())
		assert.Equal(t, purse.ProfilePBOC, h.card.Profile().Name())
		assert.Len(t, h.card.Serial(), 20)
		before := h.card.Condition()
		assert.True(t, before.PIN)
		assert.Equal(t, 3, before.PINTries)
		assert.False(t, before.Blocked || before.Locked || before.CardBlocked)
		assert.Equal(t, h.balance(purse.EP), before.EP.Balance)

		wrong, err := purse.ParsePIN("999999")
		require.NoError(t, err)
		h.refused(purse.SWPINTries(2), built(purse.VerifyPIN(wrong)))
		_, credit := h.openLoad(purse.EP, 100)
		h.ok(credit)
		after := h.card.Condition()
		assert.Equal(t, 2, after.PINTries)
		assert.Equal(t, before.EP.Balance+100, after.EP.Balance)
		assert.Equal(t, before.EP.Online+1, after.EP.Online)
		assert.Equal(t, before.ED, after.ED)
	}
}
