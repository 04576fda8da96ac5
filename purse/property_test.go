package purse_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
)

func drawBytes(t *rapid.T, label string, n int) []byte {
	return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, label)
}

func drawMoment(t *rapid.T) (purse.Date, purse.Time) {
	second := rapid.Int64Range(-62_135_596_800, 253_402_300_799).Draw(t, "second") // years 1 to 9999
	d, v, err := purse.DateTime(time.Unix(second, 0).UTC())
	require.NoError(t, err)
	return d, v
}

// Whatever the values, a layout is its fields in the drawn order, and what it writes it reads.
func TestLayoutsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, v := drawMoment(t)
		init := purse.LoadInit{
			Balance: purse.Fen(rapid.Uint32().Draw(t, "balance")), Counter: purse.Counter(rapid.Uint16().Draw(t, "counter")),
			KVER: purse.KVER(rapid.Byte().Draw(t, "kver")), ALG: purse.ALG(rapid.Byte().Draw(t, "alg")),
			Random: purse.Random(drawBytes(t, "r", 4)), MAC1: purse.MAC(drawBytes(t, "mac1", 4)),
		}
		again, err := purse.ParseLoadInitHex(upper(init.Bytes()))
		require.NoError(t, err)
		require.Equal(t, init, again)

		limit := purse.Limit(rapid.Uint32Range(0, uint32(purse.MaxLimit)).Draw(t, "limit"))
		overdraft := purse.OverdraftInit{
			Balance: init.Balance, Counter: init.Counter, OldLimit: limit, KVER: init.KVER, ALG: init.ALG,
			Random: init.Random, MAC1: init.MAC1,
		}
		overdraftAgain, err := purse.ParseOverdraftInitHex(upper(overdraft.Bytes()))
		require.NoError(t, err)
		require.Equal(t, overdraft, overdraftAgain)

		purchase := purse.PurchaseInit{
			Balance: init.Balance, Counter: init.Counter, Overdraft: limit, KVER: init.KVER, ALG: init.ALG, Random: init.Random,
		}
		purchaseAgain, err := purse.ParsePurchaseInitHex(upper(purchase.Bytes()))
		require.NoError(t, err)
		require.Equal(t, purchase, purchaseAgain)

		record := purse.LogRecord{
			SN: init.Counter, Overdraft: limit, Amount: init.Balance, TTI: purse.TTILoadEP,
			Terminal: purse.Terminal(drawBytes(t, "terminal", 6)), Date: d, Time: v,
		}
		recordAgain, err := purse.ParseLogRecord(record.Bytes())
		require.NoError(t, err)
		require.Equal(t, record, recordAgain)

		update := purse.LimitUpdate{NewLimit: limit, Date: d, Time: v, MAC2: init.MAC1}
		updateAgain, err := purse.ParseLimitUpdate(update.Bytes())
		require.NoError(t, err)
		require.Equal(t, update, updateAgain)
	})
}

// Session inputs differ whenever random or counter do, so no two transactions of a card share a session key.
func TestSessionInputsAreInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawBytes(t, "a", 6), drawBytes(t, "b", 6)
		input := func(v []byte) [8]byte {
			return purse.LoadInit{Random: purse.Random(v[:4]), Counter: purse.Counter(binary.BigEndian.Uint16(v[4:]))}.SessionInput()
		}
		require.Equal(t, string(a) == string(b), input(a) == input(b))

		tsn := purse.TSN(rapid.Uint32().Draw(t, "tsn"))
		in := purse.PurchaseInit{Random: purse.Random(a[:4]), Counter: purse.Counter(binary.BigEndian.Uint16(a[4:]))}.SessionInput(tsn)
		require.Equal(t, a, in[:6])
		require.Equal(t, uint16(tsn), binary.BigEndian.Uint16(in[6:]))
	})
}

// The covered data of two different loads differs wherever the loads do, except for what a MAC leaves to the session key.
func TestCoveredDataOfLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, v := drawMoment(t)
		balance := rapid.Uint32().Draw(t, "balance")
		amount := rapid.Uint32().Draw(t, "amount")
		number := purse.Terminal(drawBytes(t, "terminal", 6))
		l, err := purse.NewLoad(purse.LoadInit{Balance: purse.Fen(balance)}, purse.EP, purse.Fen(amount), number)
		if uint64(balance)+uint64(amount) > 0xFFFFFFFF {
			require.ErrorContains(t, err, "amount")
			return
		}
		require.NoError(t, err)
		mac1, mac2, tac := l.MAC1Data(), l.MAC2Data(d, v), l.TACData(d, v)
		require.Len(t, mac1, 15)
		require.Len(t, mac2, 18)
		require.Len(t, tac, 24)
		require.Equal(t, balance, binary.BigEndian.Uint32(mac1))
		require.Equal(t, mac1[4:], mac2[:11])
		require.Equal(t, balance+amount, binary.BigEndian.Uint32(tac))
		require.Equal(t, mac2, tac[6:])
		require.Equal(t, append(append([]byte(nil), d[:]...), v[:]...), mac2[11:])
	})
}

// What is encrypted for a card comes out of its frame again, in every padding and suite.
func TestFramesRoundTrip(t *testing.T) {
	base := profile(t, purse.ProfilePBOC)
	rapid.Check(t, func(t *rapid.T) {
		padding := rapid.SampledFrom([]string{"none", "always"}).Draw(t, "padding")
		p, err := base.With([]byte(`{"updateData": "encrypted", "encryptionPadding": "` + padding + `"}`))
		require.NoError(t, err)
		alg := rapid.SampledFrom([]suite.Algorithm{suite.TDES, suite.SM4}).Draw(t, "alg")
		data := rapid.SliceOfN(rapid.Byte(), 1, 230).Draw(t, "data")
		var clear clearMessenger
		clear.alg = alg
		a, err := purse.UpdateBinary{Data: data}.Build(p, make([]byte, 4), &clear)
		require.NoError(t, err)
		_, sent, _, err := purse.SplitSecure(a)
		require.NoError(t, err)
		require.Zero(t, len(sent)%alg.BlockSize())
		again, err := p.Unframe(alg, sent)
		require.NoError(t, err)
		require.Equal(t, data, again)

		flipped := append([]byte(nil), sent...)
		flipped[len(flipped)-1] ^= 0x40
		wrong, err := p.Unframe(alg, flipped)
		if err == nil {
			require.NotEqual(t, data, wrong)
		}
	})
}

// clearMessenger encrypts nothing, so that a test reads the frame.
type clearMessenger struct{ alg suite.Algorithm }

func (c *clearMessenger) Algorithm() suite.Algorithm { return c.alg }

func (*clearMessenger) MAC(_, _ []byte) (purse.MAC, error) { return purse.MAC{}, nil }

func (*clearMessenger) Encrypt(blocks []byte) ([]byte, error) {
	return append([]byte(nil), blocks...), nil
}
