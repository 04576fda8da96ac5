package softcard_test

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

var device = [8]byte{0x52, 0x44, 0x00, 0x00, 0x00, 0x00, 0x00, 0x17}

// bureau is the issuer's side of a module: the control key that the module has now, in an engine.
type bureau struct {
	t       testing.TB
	alg     suite.Algorithm
	profile purse.Profile
	module  *softcard.Module
	control softcard.KeyValue
}

func newBureau(t testing.TB, alg suite.Algorithm, p purse.Profile) *bureau {
	t.Helper()
	control, err := softcard.Diversify(alg, softcard.TestOnlyModuleMasters()[purse.KeyReaderControl], device)
	require.NoError(t, err)
	module, err := softcard.NewModule(softcard.ModuleOptions{
		Algorithm: alg, Profile: p, Device: device, Terminal: terminal, Control: control, Levels: 2,
		Purchase: map[purse.KVER]softcard.KeyValue{1: softcard.TestOnlyMasters()[purse.KeyPurchase]}, Random: newCounting(),
	})
	require.NoError(t, err)
	return &bureau{t, alg, p, module, control}
}

func (b *bureau) send(a purse.APDU) ([]byte, purse.SW) {
	b.t.Helper()
	data, sw, err := b.module.Send(a)
	require.NoError(b.t, err)
	return data, sw
}

// write builds WRITE KEY of a kind under a fresh challenge.
func (b *bureau) write(kind purse.KeyKind, value softcard.KeyValue) (made purse.APDU) {
	b.t.Helper()
	challenge, sw := b.send(purse.Challenge(b.profile))
	require.Equal(b.t, purse.SWOK, sw)
	row, err := b.profile.KeyRow(kind)
	require.NoError(b.t, err)
	under := secret.Copy(b.control[:])
	defer under.Wipe()
	key, err := keyderive.InMemory(b.alg, under)
	require.NoError(b.t, err)
	left := secret.Copy(append(b.control[:8:8], b.control[:8]...))
	defer left.Wipe()
	half, err := keyderive.InMemory(b.alg, left)
	require.NoError(b.t, err)
	bytes := secret.Copy(value[:])
	defer bytes.Wipe()
	require.NoError(b.t, key.Lend(context.Background(), keyderive.Path{}, func(whole keyderive.Unit) error {
		return half.Lend(context.Background(), keyderive.Path{}, func(left keyderive.Unit) error {
			m, err := keyderive.CardOf(b.alg, whole, left).Messaging()
			require.NoError(b.t, err)
			made, err = purse.WriteKey{Row: row, KeyValue: bytes}.Build(b.profile, challenge, m)
			return err
		})
	}))
	return made
}

func (b *bureau) wants(want purse.SW, a purse.APDU) {
	b.t.Helper()
	data, sw := b.send(a)
	require.Equal(b.t, want.String(), sw.String())
	require.Empty(b.t, data)
}

// A module takes its reader's keys under its control key, each command once and whole, and no key of a card.
func TestModuleTakesItsKeys(t *testing.T) {
	inEveryProfile(t, func(h *host) {
		b := newBureau(h.t, h.alg, h.profile)
		_, ok := b.module.TestOnlyKey(purse.KeyReader)
		assert.False(b.t, ok)
		reader := softcard.KeyValue{1, 2, 3}
		made := b.write(purse.KeyReader, reader)
		b.wants(purse.SWOK, made)
		got, ok := b.module.TestOnlyKey(purse.KeyReader)
		assert.True(b.t, ok)
		assert.True(b.t, got == reader)
		b.wants(purse.SWNoChallenge, made)
		_, _ = b.send(purse.Challenge(h.profile))
		b.wants(purse.SWSecureMAC, made)
		late := b.write(purse.KeyReader, softcard.KeyValue{4})
		b.module.Reset()
		b.wants(purse.SWNoChallenge, late)
		for _, kind := range purse.KeyKinds() {
			if !kind.OfModule() {
				b.wants(purse.SWParameters, b.write(kind, softcard.KeyValue{9}))
			}
		}
		broken := b.write(purse.KeyReader, softcard.KeyValue{4})
		broken.Data[3] ^= 1
		b.wants(purse.SWSecureMAC, broken)
		got, _ = b.module.TestOnlyKey(purse.KeyReader)
		assert.True(b.t, got == reader, "unchanged")

		other := softcard.KeyValue{7, 7, 7}
		b.wants(purse.SWOK, b.write(purse.KeyReaderControl, other))
		b.wants(purse.SWSecureMAC, b.write(purse.KeyReader, reader))
		b.control = other
		b.wants(purse.SWOK, b.write(purse.KeyReader, softcard.KeyValue{5}))
	})
}

// samPurchase is what a terminal asks of its module for a purchase that the card has initialised.
func (h *host) samPurchase(tti purse.TTI, amount purse.Fen) purse.SAMPurchase {
	h.t.Helper()
	init, err := purse.ParsePurchaseInit(h.ok(built(purse.InitializeForPurchase(h.profile, tti, amount, terminal))))
	require.NoError(h.t, err)
	factor, err := purse.ParseCardSerial(serial)
	require.NoError(h.t, err)
	return purse.SAMPurchase{
		Random: init.Random, Counter: init.Counter, Amount: amount, TTI: tti, Date: date, Time: clock, KVER: init.KVER, ALG: init.ALG,
		Factors: purse.CardFirst{factor, issuer},
	}
}

// A terminal whose module has purchase keys needs no network: card and module take each other's MACs, every serial is used once.
func TestModuleBuys(t *testing.T) {
	inEveryProfile(t, func(h *host) {
		b := newBureau(h.t, h.alg, h.profile)
		for i, tti := range []purse.TTI{purse.TTIPurchaseEP, purse.TTIPurchaseED, purse.TTICashWithdrawal, purse.TTICompound} {
			asked := h.samPurchase(tti, 5)
			if tti == purse.TTICompound {
				h.ok(built(purse.UpdateCAPPCache(0x01, 0x17<<3|4, []byte("gate 042"))))
			}
			command, err := purse.InitSAMForPurchase(asked)
			require.NoError(h.t, err)
			data, sw := b.send(command)
			require.Equal(h.t, purse.SWOK, sw)
			answer, err := purse.ParseSAMAnswer(data)
			require.NoError(h.t, err)
			assert.Equal(h.t, purse.TSN(i+1), answer.TSN)
			buy, err := purse.NewPurchase(purse.PurchaseInit{}, tti, answer.TSN, 5, terminal)
			require.NoError(h.t, err)
			debit, err := purse.ParseDebitAnswer(h.ok(plain(buy.Debit(h.profile, date, clock, answer.MAC1))))
			require.NoError(h.t, err)
			b.wants(purse.SWOK, purse.CreditSAMForPurchase(debit.MAC2))
			b.wants(purse.SWState, purse.CreditSAMForPurchase(debit.MAC2))

			_, sw = b.send(command) // and once more, with the next serial
			require.Equal(h.t, purse.SWOK, sw)
			debit.MAC2[0] ^= 1
			b.wants(purse.SWMAC, purse.CreditSAMForPurchase(debit.MAC2))
			b.wants(purse.SWState, purse.CreditSAMForPurchase(debit.MAC2))
			b.module, err = softcard.NewModule(softcard.ModuleOptions{
				Algorithm: h.alg, Profile: h.profile, Device: device, Terminal: terminal, Levels: 2, LastTSN: b.module.LastTSN() - 1,
				Purchase: map[purse.KVER]softcard.KeyValue{1: softcard.TestOnlyMasters()[purse.KeyPurchase]}, Random: newCounting(),
			})
			require.NoError(h.t, err)
		}
	})
}

func TestModuleRefuses(t *testing.T) {
	h := newHost(t, suite.TDES, profile(t, purse.ProfilePBOC))
	b := newBureau(t, h.alg, h.profile)
	good := h.samPurchase(purse.TTIPurchaseEP, 5)
	init := func(change func(*purse.SAMPurchase)) purse.APDU {
		v := good
		change(&v)
		return purse.APDU{CLA: 0x80, INS: 0x70, Data: v.Bytes(), Expect: 8}
	}
	for name, c := range map[string]struct {
		apdu purse.APDU
		want purse.SW
	}{
		"version":     {init(func(v *purse.SAMPurchase) { v.KVER = 2 }), purse.SWKeyIndex},
		"date":        {init(func(v *purse.SAMPurchase) { v.Date = purse.Date{0x20, 0x24, 0x13, 0x01} }), purse.SWData},
		"load":        {init(func(v *purse.SAMPurchase) { v.TTI = purse.TTILoadEP }), purse.SWData},
		"one factor":  {init(func(v *purse.SAMPurchase) { v.Factors = v.Factors[:1] }), purse.SWLength},
		"no data":     {purse.APDU{CLA: 0x80, INS: 0x70}, purse.SWLength},
		"parameters":  {purse.APDU{CLA: 0x80, INS: 0x70, P1: 1, Data: good.Bytes()}, purse.SWParameters},
		"short Le":    {purse.APDU{CLA: 0x80, INS: 0x70, Data: good.Bytes(), Expect: 4}, purse.SWLength},
		"MAC2 first":  {purse.CreditSAMForPurchase(purse.MAC{}), purse.SWState},
		"MAC2 length": {purse.APDU{CLA: 0x80, INS: 0x72, Data: []byte{1}}, purse.SWLength},
		"instruction": {purse.APDU{CLA: 0x80, INS: 0x50}, purse.SWInstruction},
		"class":       {purse.APDU{CLA: 0x90, INS: 0x70}, purse.SWClass},
		"challenge":   {purse.APDU{INS: 0x84, Expect: 5}, purse.SWLength},
	} {
		data, sw := b.send(c.apdu)
		assert.Equal(t, c.want.String(), sw.String(), name)
		assert.Empty(t, data, name)
		assert.Zero(t, b.module.LastTSN(), name)
	}
	assert.Equal(t, []byte{0x67, 0x00}, b.module.Transmit([]byte{0x80}))
	assert.Equal(t, device, b.module.Device())
	assert.Equal(t, "softcard module 5244000000000017", fmt.Sprintf("%+v", b.module))

	last, err := softcard.NewModule(softcard.ModuleOptions{
		Algorithm: suite.TDES, Profile: h.profile, Levels: 2, LastTSN: math.MaxUint32, Random: newCounting(),
		Purchase: map[purse.KVER]softcard.KeyValue{1: {}},
	})
	require.NoError(t, err)
	_, sw, err := last.Send(init(func(*purse.SAMPurchase) {}))
	require.NoError(t, err)
	assert.Equal(t, purse.SWCounterExhausted, sw)
	for want, o := range map[string]softcard.ModuleOptions{
		"algorithm":        {Profile: h.profile, Random: newCounting()},
		"profile: missing": {Algorithm: suite.SM4, Random: newCounting()},
		"levels: 4":        {Algorithm: suite.SM4, Profile: h.profile, Levels: 4, Random: newCounting()},
		"random: missing":  {Algorithm: suite.SM4, Profile: h.profile},
	} {
		_, err := softcard.NewModule(o)
		assert.ErrorContains(t, err, want)
	}
}
