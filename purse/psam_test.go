package purse_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/purse"
)

// The bytes of EPURSE.md §7, drawn by hand.
func TestSAMCommands(t *testing.T) {
	v := purse.SAMPurchase{
		Random: purse.Random{0xA1, 0xB2, 0xC3, 0xD4}, Counter: 7, Amount: 100, TTI: purse.TTIPurchaseEP,
		Date: purse.Date{0x20, 0x24, 0x01, 0x31}, Time: purse.Time{0x23, 0x59, 0x59}, KVER: 1, ALG: 2,
		Factors: purse.CardFirst{{0x31, 0x05, 7: 0x17}, {0x10, 7: 0x01}},
	}
	a, err := purse.InitSAMForPurchase(v)
	require.NoError(t, err)
	assert.Equal(t, "8070000024"+"A1B2C3D4"+"0007"+"00000064"+"06"+"20240131"+"235959"+"01"+"02"+"3105000000000017"+"1000000000000001"+"08", a.Hex())
	again, err := purse.ParseSAMPurchase(a.Data)
	require.NoError(t, err)
	assert.Equal(t, v, again)
	assert.Equal(t, [][8]byte{v.Factors[1], v.Factors[0]}, v.Factors.RootFirst())
	assert.Equal(t, "8072000004"+"01020304", purse.CreditSAMForPurchase(purse.MAC{1, 2, 3, 4}).Hex())
	answer, err := purse.ParseSAMAnswer([]byte{0, 0, 0, 9, 1, 2, 3, 4})
	require.NoError(t, err)
	assert.Equal(t, purse.SAMAnswer{TSN: 9, MAC1: purse.MAC{1, 2, 3, 4}}, answer)
	assert.Equal(t, []byte{0, 0, 0, 9, 1, 2, 3, 4}, answer.Bytes())

	for _, n := range []int{0, 20, 27, 29, 52} {
		_, err := purse.ParseSAMPurchase(append(a.Data[:min(n, 36):min(n, 36)], make([]byte, max(0, n-36))...))
		assert.ErrorContains(t, err, "expected 20 and one to 3 factors of 8", "%d bytes", n)
	}
	for want, at := range map[string]int{"type: ": 10, "date: ": 13, "time: ": 15} {
		bad := append([]byte(nil), a.Data...)
		bad[at] = 0xFF
		_, err := purse.ParseSAMPurchase(bad)
		assert.ErrorContains(t, err, want)
	}
	_, err = purse.ParseSAMAnswer(make([]byte, 7))
	require.ErrorContains(t, err, "samResponse: 7 bytes, expected 8")
	v.TTI = purse.TTILoadEP
	_, err = purse.InitSAMForPurchase(v)
	require.ErrorContains(t, err, "type: ")
	v.TTI, v.Factors = purse.TTIPurchaseEP, nil
	_, err = purse.InitSAMForPurchase(v)
	require.ErrorContains(t, err, "factors: 0, expected 1 to 3")
}

// A kind goes on cards or into modules, and is written under the control key of its place.
func TestControlKeys(t *testing.T) {
	modules := 0
	for _, kind := range purse.KeyKinds() {
		if kind.OfModule() {
			modules++
		}
		assert.Equal(t, kind.OfModule(), kind.Control().OfModule())
		assert.Equal(t, kind.Control(), kind.Control().Control())
	}
	assert.Equal(t, 2, modules)
}
