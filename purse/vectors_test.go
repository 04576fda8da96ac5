package purse_test

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
)

// The published test masters of the demonstration card, whose serial is 3105228000001117 under issuer 1000100010001000.
var masters = map[purse.KeyKind]string{
	purse.KeyPurchase:     "7C6D199E970D6B19B5A8295E10C17043",
	purse.KeyLoad:         "F7C1734AABB56E2CE6E3AE76862FDC3B",
	purse.KeyUnload:       "1C80CB5E526BA4EACD4F34250754F740",
	purse.KeyOverdraft:    "040D5D07384A2AD376D0B3A213C751B3",
	purse.KeyTAC:          "7FA79B75451FCDF820734AE367923E85",
	purse.KeyPINUnblock:   "B9839DB98C3D859BC426C70D867AAEB0",
	purse.KeyPINReload:    "1A52EFE6C713C1321A3E4CE994EA0DB5",
	purse.KeyMaintenance:  "9E683E5DFDABA2DAD0BCFBFE927A1C3E",
	purse.KeyControl:      "0D1E2F3C4B5A69788796A5B4C3D2E1F0",
	purse.KeyInternalAuth: "2B4C6D8EA0B1C2D3E4F5061728394A5B",
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func profile(t testing.TB, name string) purse.Profile {
	t.Helper()
	p, err := purse.ShippedProfile(name)
	require.NoError(t, err)
	return p
}

// withCard lends the demonstration card's key of a kind.
func withCard(t testing.TB, alg suite.Algorithm, kind purse.KeyKind, use func(keyderive.Card) error) {
	t.Helper()
	value := secret.Take(unhex(t, masters[kind]))
	defer value.Wipe()
	key, err := keyderive.InMemory(alg, value)
	require.NoError(t, err)
	issuer := keyderive.Factor(unhex(t, "1000100010001000"))
	serial, err := purse.ParseCardSerial("3105228000001117")
	require.NoError(t, err)
	require.NoError(t, keyderive.NewMaster(key, keyderive.RootFirst(issuer)).WithCard(context.Background(), serial, use))
}

// macUnder is the MAC of data under the session key of in, or the TAC where kind is the TAC key.
func macUnder(t testing.TB, alg suite.Algorithm, kind purse.KeyKind, in [8]byte, data []byte) string {
	t.Helper()
	var mac purse.MAC
	withCard(t, alg, kind, func(card keyderive.Card) error {
		if kind == purse.KeyTAC {
			tac, err := card.TAC()
			require.NoError(t, err)
			mac, err = tac.MAC(data)
			return err
		}
		session, err := card.Session(in)
		require.NoError(t, err)
		mac, err = session.MAC(data)
		return err
	})
	return upper(mac[:])
}

var (
	terminal = purse.Terminal{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}
	random   = purse.Random{0xA1, 0xB2, 0xC3, 0xD4}
	date     = purse.Date{0x20, 0x24, 0x01, 0x31}
	clock    = purse.Time{0x23, 0x59, 0x59}
	online   = purse.LoadInit{Balance: 1000, Counter: 7, KVER: 1, Random: random}
)

// Computed by an independent program from EPURSE.md for both suites: 3DES first, SM4 second.
func TestTransactionVectors(t *testing.T) {
	load := func(p purse.Purse) purse.Load {
		l, err := purse.NewLoad(online, p, 100, terminal)
		require.NoError(t, err)
		return l
	}
	buy := func(tti purse.TTI) purse.Purchase {
		p, err := purse.NewPurchase(purse.PurchaseInit{Balance: 1000, Counter: 0x12, Random: random}, tti, 0x345, 100, terminal)
		require.NoError(t, err)
		return p
	}
	unload, err := purse.NewUnload(profile(t, purse.ProfilePBOC), purse.UnloadInit(online), purse.ED, 100, terminal)
	require.NoError(t, err)
	overdraft, err := purse.NewOverdraft(purse.OverdraftInit{Balance: 1000, Counter: 7, Random: random}, 500, terminal)
	require.NoError(t, err)

	ed, ep, pay := load(purse.ED), load(purse.EP), buy(purse.TTIPurchaseEP).SessionInput()
	for _, c := range []struct {
		name string
		kind purse.KeyKind
		in   [8]byte
		data []byte
		want [2]string
	}{
		{"load ed mac1", purse.KeyLoad, ed.SessionInput(), ed.MAC1Data(), [2]string{"E7CF3959", "A11CA803"}},
		{"load ed mac2", purse.KeyLoad, ed.SessionInput(), ed.MAC2Data(date, clock), [2]string{"F967431A", "B9610DA9"}},
		{"load ed tac", purse.KeyTAC, [8]byte{}, ed.TACData(date, clock), [2]string{"A157D1EE", "BBAA90DA"}},
		{"load ep mac1", purse.KeyLoad, ep.SessionInput(), ep.MAC1Data(), [2]string{"7E1722D0", "C9A6F09C"}},
		{"load ep mac2", purse.KeyLoad, ep.SessionInput(), ep.MAC2Data(date, clock), [2]string{"60B7B5B7", "1FF2DC09"}},
		{"load ep tac", purse.KeyTAC, [8]byte{}, ep.TACData(date, clock), [2]string{"5D5364F0", "15CDABFC"}},
		{"purchase ed mac1", purse.KeyPurchase, pay, buy(purse.TTIPurchaseED).MAC1Data(date, clock), [2]string{"B7B13A54", "A0C388CC"}},
		{"purchase ed tac", purse.KeyTAC, pay, buy(purse.TTIPurchaseED).TACData(date, clock), [2]string{"D463127B", "6A3A5C65"}},
		{"purchase ep mac1", purse.KeyPurchase, pay, buy(purse.TTIPurchaseEP).MAC1Data(date, clock), [2]string{"EC832853", "D2D3242B"}},
		{"purchase ep mac2", purse.KeyPurchase, pay, buy(purse.TTIPurchaseEP).MAC2Data(), [2]string{"6F08E896", "6C1EA7B4"}},
		{"purchase ep tac", purse.KeyTAC, pay, buy(purse.TTIPurchaseEP).TACData(date, clock), [2]string{"88B96EA2", "6018FD44"}},
		{"cash mac1", purse.KeyPurchase, pay, buy(purse.TTICashWithdrawal).MAC1Data(date, clock), [2]string{"423E94C8", "8CA105AE"}},
		{"cash tac", purse.KeyTAC, pay, buy(purse.TTICashWithdrawal).TACData(date, clock), [2]string{"823B17B6", "9A04BD61"}},
		{"compound mac1", purse.KeyPurchase, pay, buy(purse.TTICompound).MAC1Data(date, clock), [2]string{"24DCFE7E", "FDF4E78B"}},
		{"compound tac", purse.KeyTAC, pay, buy(purse.TTICompound).TACData(date, clock), [2]string{"7A485F56", "31CF454E"}},
		{"unload mac1", purse.KeyUnload, unload.SessionInput(), unload.MAC1Data(), [2]string{"D7C82AD7", "D279109A"}},
		{"unload mac2", purse.KeyUnload, unload.SessionInput(), unload.MAC2Data(date, clock), [2]string{"99D6E273", "6DA3D38C"}},
		{"unload mac3", purse.KeyUnload, unload.SessionInput(), unload.MAC3Data(date, clock), [2]string{"2E566532", "00B18BC0"}},
		{"overdraft mac1", purse.KeyOverdraft, overdraft.SessionInput(), overdraft.MAC1Data(), [2]string{"7029F096", "D47BF7AC"}},
		{"overdraft mac2", purse.KeyOverdraft, overdraft.SessionInput(), overdraft.MAC2Data(date, clock), [2]string{"D539335B", "2F6E05ED"}},
		{"overdraft tac", purse.KeyTAC, [8]byte{}, overdraft.TACData(date, clock), [2]string{"ED2EF368", "7E51A6B4"}},
	} {
		assert.Equal(t, c.want[0], macUnder(t, suite.TDES, c.kind, c.in, c.data), "3DES %s", c.name)
		assert.Equal(t, c.want[1], macUnder(t, suite.SM4, c.kind, c.in, c.data), "SM4 %s", c.name)
	}
}

// Worked examples that third parties published, given by card key.
func TestPublishedVectors(t *testing.T) {
	publishedTerminal := purse.Terminal{0x00, 0x11, 0x22, 0x33, 0x44, 0x55}
	blog := purse.Random{0x11, 0x22, 0x33, 0x44}
	load, err := purse.NewLoad(purse.LoadInit{Random: blog}, purse.ED, 0x1000, publishedTerminal)
	require.NoError(t, err)
	forum, err := purse.NewLoad(purse.LoadInit{Random: purse.Random{0x39, 0x48, 0xBC, 0x11}}, purse.EP, 0x2000, publishedTerminal)
	require.NoError(t, err)
	buy, err := purse.NewPurchase(purse.PurchaseInit{Random: blog}, purse.TTIPurchaseEP, 1, 0x1000, publishedTerminal)
	require.NoError(t, err)
	loadDay, loadTime := purse.Date{0x20, 0x11, 0x12, 0x21}, purse.Time{0x21, 0x48, 0x22}
	buyDay, buyTime := purse.Date{0x20, 0x12, 0x02, 0x29}, purse.Time{0x13, 0x51, 0x00}

	for _, c := range []struct {
		name, cardKey string
		in            [8]byte
		data          []byte
		want          string
	}{
		{"blog load mac1", "11223344556677888877665544332211", load.SessionInput(), load.MAC1Data(), "2988AE5A"},
		{"blog load mac2", "11223344556677888877665544332211", load.SessionInput(), load.MAC2Data(loadDay, loadTime), "3A845BF0"},
		{"blog purchase mac1", "11223344556677888877665544332211", buy.SessionInput(), buy.MAC1Data(buyDay, buyTime), "F15CAB75"},
		{"blog purchase mac2", "11223344556677888877665544332211", buy.SessionInput(), buy.MAC2Data(), "56988A13"},
		{"forum load mac1", "00112233445566778899AABBCCDDEEFF", forum.SessionInput(), forum.MAC1Data(), "C47312E9"},
	} {
		value := secret.Take(unhex(t, c.cardKey))
		key, err := keyderive.InMemory(suite.TDES, value)
		require.NoError(t, err)
		require.NoError(t, key.Lend(context.Background(), keyderive.RootFirst(), func(unit keyderive.Unit) error {
			session, err := keyderive.CardOf(suite.TDES, unit, nil).Session(c.in)
			require.NoError(t, err)
			mac, err := session.MAC(c.data)
			assert.Equal(t, c.want, upper(mac[:]), c.name)
			return err
		}))
		value.Wipe()
	}
}

// The demonstration load's whole exchange, and every other command in its drawn form.
func TestTransactionCommands(t *testing.T) {
	pboc, transport := profile(t, purse.ProfilePBOC), profile(t, purse.ProfileTransport)
	mac := purse.MAC{0x60, 0xB7, 0xB5, 0xB7}
	buy := func(tti purse.TTI) purse.Purchase {
		p, err := purse.NewPurchase(purse.PurchaseInit{}, tti, 0x345, 100, terminal)
		require.NoError(t, err)
		return p
	}
	must := func(a purse.APDU, err error) purse.APDU {
		require.NoError(t, err)
		return a
	}
	for _, c := range []struct {
		want string
		got  purse.APDU
	}{
		{"805000020B 01 00000064 112233445566 10", must(purse.InitializeForLoad(pboc, purse.EP, 100, terminal))},
		{"805000010B 01 00000064 112233445566 10", must(purse.InitializeForLoad(pboc, purse.ED, 100, terminal))},
		{"805200000B 20240131 235959 60B7B5B7 04", purse.CreditForLoad(pboc, date, clock, mac)},
		{"805200020B 20240131 235959 60B7B5B7 04", purse.CreditForLoad(transport, date, clock, mac)},
		{"805001020B 01 00000064 112233445566 0F", must(purse.InitializeForPurchase(pboc, purse.TTIPurchaseEP, 100, terminal))},
		{"805001010B 01 00000064 112233445566 0F", must(purse.InitializeForPurchase(pboc, purse.TTIPurchaseED, 100, terminal))},
		{"805002010B 01 00000064 112233445566 0F", must(purse.InitializeForPurchase(pboc, purse.TTICashWithdrawal, 100, terminal))},
		{"805003020B 01 00000064 112233445566 0F", must(purse.InitializeForPurchase(pboc, purse.TTICompound, 100, terminal))},
		{"80DC01BC02 AABB", must(purse.UpdateCAPPCache(0x01, 0xBC, []byte{0xAA, 0xBB}))},
		{"805401000F 00000345 20240131 235959 60B7B5B7 08", buy(purse.TTIPurchaseEP).Debit(pboc, date, clock, mac)},
		{"805402000F 00000345 20240131 235959 60B7B5B7 08", buy(purse.TTIPurchaseEP).Debit(transport, date, clock, mac)},
		{"805401000F 00000345 20240131 235959 60B7B5B7 08", buy(purse.TTICompound).Debit(transport, date, clock, mac)},
		{"805402000F 00000345 20240131 235959 60B7B5B7 08", buy(purse.TTICashWithdrawal).Debit(transport, date, clock, mac)},
		{"805005010B 01 00000064 112233445566 10", must(purse.InitializeForUnload(pboc, purse.ED, 100, terminal))},
		{"805403000B 20240131 235959 60B7B5B7 04", purse.DebitForUnload(date, clock, mac)},
		{"8050040107 01 112233445566 13", purse.InitializeForUpdate(pboc, terminal)},
		{"805800000E 0001F4 20240131 235959 60B7B5B7 04", purse.UpdateOverdraftLimit(500, date, clock, mac)},
		{"805A000202 0007 08", must(purse.TransactionProve(purse.TTILoadEP, 7))},
		{"805C0002 04", must(purse.QueryBalance(purse.EP))},
		{"00B201C4 17", purse.ReadLog(1)},
		{"00B09500 1E", purse.ReadBinary(0x15, 0, 30)},
		{"00A4040009 A00000000386980701 00", must(purse.SelectApplication(unhex(t, "A00000000386980701")))},
		{"00A4000002 3F01 00", purse.SelectFile([2]byte{0x3F, 0x01})},
		{"00840000 04", purse.Challenge(pboc)},
		{"00840000 08", purse.Challenge(profile(t, purse.ProfileFMCOS))},
		{"0082000008 52E0F8DCFB8625FD", must(purse.ExternalAuthenticate(0, unhex(t, "52E0F8DCFB8625FD")))},
		{"0088000208 9B361B26CB9FA8C8 08", purse.InternalAuthenticate(pboc, suite.SM4, 2, [8]byte(unhex(t, "9B361B26CB9FA8C8")))},
	} {
		assert.Equal(t, strings.ReplaceAll(c.want, " ", ""), c.got.Hex())
		assert.Equal(t, c.got.Hex(), c.got.String(), "nothing to redact")
		again, err := purse.ParseAPDU(c.got.Bytes())
		require.NoError(t, err)
		assert.Equal(t, c.got, again)
	}
}
