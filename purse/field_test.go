package purse_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
)

func TestFieldErrorsNameFieldAndPlace(t *testing.T) {
	fifteen := strings.Repeat("00", 15)
	for _, c := range []struct {
		name string
		err  func() error
		want string
	}{
		{"short", func() error { _, err := purse.ParseLoadInitHex(fifteen); return err }, "initializeResponse: 15 bytes, expected 16"},
		{"long", func() error { _, err := purse.ParseUnloadInitHex(fifteen + "0000"); return err }, "initializeResponse: 17 bytes, expected 16"},
		{"letter", func() error { _, err := purse.ParseLoadInitHex("0000 0G"); return err }, "initializeResponse: character 7: 'G' is not a hex digit"},
		{"han", func() error { _, err := purse.ParseLoadInitHex("分00"); return err }, "initializeResponse: character 1: '分' is not a hex digit"},
		{"tab", func() error { _, err := purse.ParseMAC("mac1", "00\t00"); return err }, `mac1: character 3: '\t' is not a hex digit`},
		{"broken utf-8", func() error { _, err := purse.ParseMAC("mac1", "00\xff"); return err }, "mac1: character 3: '\uFFFD' is not a hex digit"},
		{"odd", func() error { _, err := purse.ParseMAC("tac", "5D5364F"); return err }, "tac: 7 hex digits, expected an even number"},
		{"empty", func() error { _, err := purse.ParseMAC("tac", ""); return err }, "tac: 0 bytes, expected 4"},
		{"overdraft", func() error { _, err := purse.ParseOverdraftInitHex(fifteen); return err }, "initializeResponse: 15 bytes, expected 19"},
		{"purchase", func() error { _, err := purse.ParsePurchaseInitHex("00"); return err }, "initializeResponse: 1 bytes, expected 15"},
		{"range", func() error { _, err := purse.ParseHexRange("data", "00", 2, 3); return err }, "data: 1 bytes, expected 2 to 3"},
		{"terminal", func() error { _, err := purse.ParseTerminal("1122"); return err }, "terminalId: 2 bytes, expected 6"},
		{"random", func() error { _, err := purse.ParseRandom("random", "x"); return err }, "random: character 1: 'x' is not a hex digit"},
		{"counter", func() error { _, err := purse.ParseCounter("000007"); return err }, "counter: 3 bytes, expected 2"},
		{"serial", func() error { _, err := purse.ParseTSN(""); return err }, "terminalSerial: 0 bytes, expected 4"},
		{"type", func() error { _, err := purse.ParseTTI("08"); return err }, "type: unknown transaction type 08"},
		{"amount", func() error { _, err := purse.NewFen("amountFen", 1<<32); return err }, "amountFen: 4294967296 fen do not fit in four bytes"},
		{"limit", func() error { _, err := purse.NewLimit("newLimitFen", 1<<24); return err }, "newLimitFen: 16777216 fen do not fit in three bytes"},
		{"purse", func() error { _, err := purse.ParsePurse("ep"); return err }, `purse: "ep", expected "ED" or "EP"`},
		{"issuer", func() error { _, err := purse.ParseIssuerID("1000"); return err }, "issuerId: 2 bytes, expected 8"},
		{"prove", func() error { _, err := purse.ParseProveAnswer(nil); return err }, "proveResponse: 0 bytes, expected 8"},
		{"debit", func() error { _, err := purse.ParseDebitAnswer(nil); return err }, "debitResponse: 0 bytes, expected 8"},
		{"balance", func() error { _, err := purse.ParseBalance(nil); return err }, "balance: 0 bytes, expected 4"},
		{"prove type", func() error { _, err := purse.TransactionProve(8, 0); return err }, "type: invalid transaction type 08"},
		{"balance purse", func() error { _, err := purse.QueryBalance(0); return err }, "purse: invalid purse 0"},
		{"aid", func() error { _, err := purse.SelectApplication(nil); return err }, "aid: 0 bytes, expected 1 to 16"},
		{"capp", func() error { _, err := purse.UpdateCAPPCache(1, 2, nil); return err }, "data: 0 bytes, expected 1 to 255"},
	} {
		err := c.err()
		var field *purse.FieldError
		require.ErrorAs(t, err, &field, c.name)
		assert.EqualError(t, err, c.want, c.name)
	}
}

func TestHexFieldsAllowSpacesAndEitherCase(t *testing.T) {
	init, err := purse.ParseLoadInitHex(" 000003e8 0007 01 00 A1b2C3d4 7e1722D0 ")
	require.NoError(t, err)
	assert.Equal(t, purse.LoadInit{
		Balance: 1000, Counter: 7, KVER: 1, Random: random, MAC1: purse.MAC{0x7E, 0x17, 0x22, 0xD0},
	}, init)
	assert.Equal(t, "000003E80007"+"0100"+"A1B2C3D4"+"7E1722D0", upper(init.Bytes()))
	b, err := purse.ParseHexRange("data", "", 0, 4)
	require.NoError(t, err)
	assert.Empty(t, b)
}

// One card has one factor, however its number is written (EPURSE.md §2).
func TestCardSerialIsCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"3105228000001117":          "3105228000001117",
		"00003105228000001117":      "3105228000001117",
		"3105 2280 0000 1117":       "3105228000001117",
		"99993105228000001117":      "3105228000001117",
		"1117":                      "0000000000001117",
		"117":                       "0000000000000117",
		"7":                         "0000000000000007",
		"0":                         "0000000000000000",
		"abcdefABCDEF":              "0000ABCDEFABCDEF",
		"  1 2  3 ":                 "0000000000000123",
		"0000 0000 0000 0000 0123 ": "0000000000000123",
	} {
		factor, err := purse.ParseCardSerial(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, upper(factor[:]), text)
	}
	for text, want := range map[string]string{
		"":                      "cardSerial: 0 hex digits, expected 1 to 20",
		"  ":                    "cardSerial: 0 hex digits, expected 1 to 20",
		"000000000000000000001": "cardSerial: 21 hex digits, expected 1 to 20",
		"31-05":                 "cardSerial: character 3: '-' is not a hex digit",
	} {
		_, err := purse.ParseCardSerial(text)
		assert.EqualError(t, err, want)
	}
}

func TestDatesAreOfTheCalendar(t *testing.T) {
	for _, text := range []string{"20240131", "20240229", "20000229", "19991231", "0001 01 01", "99991231"} {
		d, err := purse.ParseDate(text)
		require.NoError(t, err, text)
		assert.Equal(t, strings.ReplaceAll(text, " ", ""), d.String())
		assert.True(t, d.Valid())
	}
	for _, text := range []string{
		"20230229", "19000229", "20240230", "20241301", "20240001", "20240100", "20240132", "00000101", "2024013A", "20A40131",
		"", "2024", "202401310",
	} {
		d, err := purse.ParseDate(text)
		require.Error(t, err, text)
		assert.Contains(t, err.Error(), "date: ")
		assert.Zero(t, d)
	}
	assert.False(t, purse.Date{}.Valid())
}

func TestTimesAreOfTheDay(t *testing.T) {
	for _, text := range []string{"000000", "235959", "12 34 56"} {
		v, err := purse.ParseTime(text)
		require.NoError(t, err, text)
		assert.Equal(t, strings.ReplaceAll(text, " ", ""), v.String())
	}
	for _, text := range []string{"240000", "236000", "235960", "2A0000", "", "2359"} {
		_, err := purse.ParseTime(text)
		require.Error(t, err, text)
		assert.Contains(t, err.Error(), "time: ")
	}
}

func TestDateTimeKeepsItsLocation(t *testing.T) {
	at := time.Date(2024, 1, 31, 23, 59, 59, 999, time.FixedZone("CST", 8*3600))
	d, v, err := purse.DateTime(at)
	require.NoError(t, err)
	assert.Equal(t, date, d)
	assert.Equal(t, clock, v)
	d, v, err = purse.DateTime(at.UTC())
	require.NoError(t, err)
	assert.Equal(t, "20240131 155959", d.String()+" "+v.String())
	_, _, err = purse.DateTime(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))
	require.EqualError(t, err, "date: year 10000 does not fit in YYYY")
}

// A sum that does not fit in four bytes is refused before anything is computed, and the error names both parts.
func TestBalancesThatDoNotFit(t *testing.T) {
	full := purse.LoadInit{Balance: 0xFFFFFFFF - 100}
	_, err := purse.NewLoad(full, purse.EP, 101, terminal)
	require.EqualError(t, err, "amount: amount 101 and balance 4294967195 are together over four bytes")
	l, err := purse.NewLoad(full, purse.EP, 100, terminal)
	require.NoError(t, err)
	assert.Equal(t, purse.Fen(0xFFFFFFFF), l.NewBalance())

	pboc := profile(t, purse.ProfilePBOC)
	_, err = purse.NewUnload(pboc, purse.UnloadInit{Balance: 99}, purse.ED, 100, terminal)
	require.EqualError(t, err, "amount: amount 100 is over the balance 99")
	u, err := purse.NewUnload(pboc, purse.UnloadInit{Balance: 100}, purse.ED, 100, terminal)
	require.NoError(t, err)
	assert.Zero(t, u.NewBalance())

	_, err = purse.NewOverdraft(purse.OverdraftInit{Balance: 0xFFFFFFFF}, 1, terminal)
	require.ErrorContains(t, err, "newLimit: balance 4294967295, new limit 1 and old limit 0 make a balance of 4294967296")
	_, err = purse.NewOverdraft(purse.OverdraftInit{Balance: 4, OldLimit: 5}, 0, terminal)
	require.ErrorContains(t, err, "make a balance of -1")
	o, err := purse.NewOverdraft(purse.OverdraftInit{Balance: 0xFFFFFFFF, OldLimit: 5}, 5, terminal)
	require.NoError(t, err)
	assert.Equal(t, purse.Fen(0xFFFFFFFF), o.NewBalance())
	_, err = purse.NewOverdraft(purse.OverdraftInit{}, purse.MaxLimit+1, terminal)
	require.ErrorContains(t, err, "newLimit: ")
	_, err = purse.NewOverdraft(purse.OverdraftInit{OldLimit: purse.MaxLimit + 1}, 0, terminal)
	require.ErrorContains(t, err, "oldLimit: ")
}

// Unload belongs to one purse (EPURSE.md §5.3), purchase types to purchases.
func TestTransactionsRefuseWhatTheyAreNot(t *testing.T) {
	pboc := profile(t, purse.ProfilePBOC)
	ofEP, err := pboc.With([]byte(`{"unloadPurse": "EP"}`))
	require.NoError(t, err)
	for p, of := range map[purse.Purse]purse.Profile{purse.EP: pboc, purse.ED: ofEP, 0: pboc} {
		_, err = purse.NewUnload(of, purse.UnloadInit{}, p, 0, terminal)
		require.ErrorContains(t, err, "purse: ")
		_, err = purse.InitializeForUnload(of, p, 0, terminal)
		require.ErrorContains(t, err, "purse: ")
	}
	_, err = purse.NewUnload(ofEP, purse.UnloadInit{}, purse.EP, 0, terminal)
	require.NoError(t, err)
	_, err = purse.NewLoad(purse.LoadInit{}, 3, 0, terminal)
	require.EqualError(t, err, "purse: invalid purse 3")
	_, err = purse.InitializeForLoad(pboc, 0, 0, terminal)
	require.EqualError(t, err, "purse: invalid purse 0")
	for _, tti := range []purse.TTI{0, purse.TTILoadED, purse.TTILoadEP, purse.TTIUnload, purse.TTIOverdraft, 8} {
		_, err = purse.NewPurchase(purse.PurchaseInit{}, tti, 0, 0, terminal)
		require.ErrorContains(t, err, "type: ")
		_, err = purse.InitializeForPurchase(pboc, tti, 0, terminal)
		require.ErrorContains(t, err, "type: ")
	}
}

func TestTransactionTypes(t *testing.T) {
	for code := range 256 {
		tti := purse.TTI(code)
		p, ok := tti.Purse()
		switch code {
		case 1, 4, 5, 7:
			assert.Equal(t, purse.ED, p)
		case 2, 6, 9:
			assert.Equal(t, purse.EP, p)
		default:
			assert.False(t, ok, code)
		}
		assert.Equal(t, code >= 1 && code <= 7 || code == 9, tti.Valid(), code)
		assert.Equal(t, code >= 4 && code <= 6 || code == 9, tti.Offline(), code)
	}
	assert.Equal(t, "02 EP load", purse.TTILoadEP.String())
	for _, p := range []purse.Purse{purse.ED, purse.EP} {
		again, err := purse.ParsePurse(p.String())
		require.NoError(t, err)
		assert.Equal(t, p, again)
		of, ok := p.LoadTTI().Purse()
		assert.True(t, ok)
		assert.Equal(t, p, of)
		of, ok = p.PurchaseTTI().Purse()
		assert.True(t, ok)
		assert.Equal(t, p, of)
	}
	assert.Zero(t, purse.Purse(0).LoadTTI())
	assert.Zero(t, purse.Purse(0).PurchaseTTI())
}

// The two packages that name the kinds of key name the same ones, in the same order.
func TestKeyKindsAreTheKeySchedules(t *testing.T) {
	require.Len(t, purse.KeyKinds(), len(keyderive.Kinds()))
	for i, kind := range keyderive.Kinds() {
		assert.Equal(t, kind.String(), string(purse.KeyKinds()[i]))
	}
}

func TestStatusWords(t *testing.T) {
	data, sw, err := purse.SplitAnswer([]byte{1, 2, 0x90, 0x00})
	require.NoError(t, err)
	assert.Equal(t, []byte{1, 2}, data)
	assert.Equal(t, purse.SWOK, sw)
	_, _, err = purse.SplitAnswer([]byte{0x90})
	require.EqualError(t, err, "answer: 1 bytes, expected at least 2")
	assert.Equal(t, "9302 transaction MAC wrong", purse.SWMAC.String())
	assert.Equal(t, "63C2 PIN wrong, 2 tries left", purse.SWPINTries(2).String())
	n, ok := purse.SW(0x63C2).PINTries()
	assert.True(t, ok)
	assert.Equal(t, 2, n)
	_, ok = purse.SWOK.PINTries()
	assert.False(t, ok)
	assert.Equal(t, "1234", purse.SW(0x1234).String())
}

func TestAPDUsThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "apdu: 0 bytes, expected at least 4",
		"805C00":              "apdu: 3 bytes, expected at least 4",
		"80500001 0200":       "apdu: Lc 2, with 1 bytes after it",
		"80500001 0100 00 00": "apdu: Lc 1, with 3 bytes after it",
		"80500001 0000":       "apdu: Lc 0, with 1 bytes after it",
	} {
		_, err := purse.ParseAPDU(unhex(t, text))
		assert.EqualError(t, err, want)
	}
	a, err := purse.ParseAPDU(unhex(t, "0084000000"))
	require.NoError(t, err)
	assert.Equal(t, 256, a.Expect)
	assert.Equal(t, "0084000000", a.Hex())
}
