package softcard_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

const serial = "3105228000001117"

var (
	issuer   = keyderive.Factor{0x10, 0x00, 0x10, 0x00, 0x10, 0x00, 0x10, 0x00}
	terminal = purse.Terminal{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}
	date     = purse.Date{0x20, 0x24, 0x01, 0x31}
	clock    = purse.Time{0x23, 0x59, 0x59}
	both     = []suite.Algorithm{suite.TDES, suite.SM4}
)

// counting is a random source that never repeats four bytes and is the same in every run. Its first are A1B2C3D4.
type counting struct{ next uint32 }

func newCounting() *counting { return &counting{0xA1B2C3D4} }

func (c *counting) Read(p []byte) (int, error) {
	for at := 0; at < len(p); at += 4 {
		var word [4]byte
		binary.BigEndian.PutUint32(word[:], c.next)
		c.next++
		copy(p[at:], word[:])
	}
	return len(p), nil
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

func pin(t testing.TB, digits string) purse.PIN {
	t.Helper()
	p, err := purse.ParsePIN(digits)
	require.NoError(t, err)
	return p
}

// options is the demonstration card: 10 yuan in each purse.
func options(t testing.TB, alg suite.Algorithm, p purse.Profile) softcard.Options {
	t.Helper()
	factor, err := purse.ParseCardSerial(serial)
	require.NoError(t, err)
	keys, err := softcard.CardKeys(alg, softcard.TestOnlyMasters(), 1, issuer, factor)
	require.NoError(t, err)
	return softcard.Options{
		Algorithm: alg, Profile: p, Serial: serial, IssuerID: issuer, Keys: keys,
		ED:       softcard.Account{Balance: 1000, Online: 7, Offline: 0x12},
		EP:       softcard.Account{Balance: 1000, Online: 7, Offline: 0x12},
		PIN:      pin(t, "123456"),
		Binaries: map[byte][]byte{0x16: make([]byte, 20)},
		Records:  map[byte][][]byte{0x17: {make([]byte, 8), make([]byte, 8)}},
		Random:   newCounting(),
	}
}

// host is the issuer's side: its keys are masters in an engine, its MAC path is the key schedule's.
type host struct {
	t       testing.TB
	alg     suite.Algorithm
	profile purse.Profile
	card    *softcard.Card
}

func newHost(t testing.TB, alg suite.Algorithm, p purse.Profile) *host {
	t.Helper()
	card, err := softcard.Personalise(options(t, alg, p))
	require.NoError(t, err)
	h := &host{t, alg, p, card}
	h.choose()
	return h
}

// choose selects the application.
func (h *host) choose() []byte {
	h.t.Helper()
	return h.ok(built(purse.SelectApplication(softcard.DefaultAID())))
}

// command is what a builder returned.
type command struct {
	apdu purse.APDU
	err  error
}

func built(a purse.APDU, err error) command { return command{a, err} }

func plain(a purse.APDU) command { return command{a, nil} }

// ok sends a command that must succeed.
func (h *host) ok(c command) []byte {
	h.t.Helper()
	data, sw := h.send(c)
	require.Equal(h.t, purse.SWOK, sw, c.apdu)
	return data
}

// refused sends a command that must end with the status word.
func (h *host) refused(want purse.SW, c command) {
	h.t.Helper()
	data, sw := h.send(c)
	require.Equal(h.t, want.String(), sw.String(), c.apdu)
	require.Empty(h.t, data)
}

func (h *host) send(c command) ([]byte, purse.SW) {
	h.t.Helper()
	require.NoError(h.t, c.err)
	data, sw, err := h.card.Send(c.apdu)
	require.NoError(h.t, err)
	return data, sw
}

// with lends the card's key of a kind from its published master.
func (h *host) with(kind purse.KeyKind, use func(keyderive.Card) error) error {
	h.t.Helper()
	master := softcard.TestOnlyMasters()[kind]
	value := secret.Copy(master[:])
	defer value.Wipe()
	key, err := keyderive.InMemory(h.alg, value)
	require.NoError(h.t, err)
	factor, err := purse.ParseCardSerial(serial)
	require.NoError(h.t, err)
	return keyderive.NewMaster(key, keyderive.RootFirst(issuer)).WithCard(context.Background(), factor, use)
}

// answer verifies the card's MAC1 and makes MAC2.
func (h *host) answer(kind purse.KeyKind, in [8]byte, proof []byte, mac1 purse.MAC, issue []byte) (mac2 purse.MAC) {
	h.t.Helper()
	require.NoError(h.t, h.with(kind, func(card keyderive.Card) error {
		session, err := card.Session(in)
		require.NoError(h.t, err)
		mac2, err = session.Answer(proof, mac1, issue)
		return err
	}))
	return mac2
}

// verifySession verifies a MAC of the session.
func (h *host) verifySession(kind purse.KeyKind, in [8]byte, data, mac []byte) {
	h.t.Helper()
	require.NoError(h.t, h.with(kind, func(card keyderive.Card) error {
		session, err := card.Session(in)
		require.NoError(h.t, err)
		return session.Verify(data, purse.MAC(mac))
	}))
}

func (h *host) verifyTAC(data, tac []byte) {
	h.t.Helper()
	require.NoError(h.t, h.with(purse.KeyTAC, func(card keyderive.Card) error {
		key, err := card.TAC()
		require.NoError(h.t, err)
		return key.Verify(data, purse.MAC(tac))
	}))
}

// openLoad initialises a load and returns it with the command that completes it.
func (h *host) openLoad(p purse.Purse, amount purse.Fen) (purse.Load, command) {
	h.t.Helper()
	init, err := purse.ParseLoadInit(h.ok(built(purse.InitializeForLoad(h.profile, p, amount, terminal))))
	require.NoError(h.t, err)
	load, err := purse.NewLoad(init, p, amount, terminal)
	require.NoError(h.t, err)
	mac2 := h.answer(purse.KeyLoad, load.SessionInput(), load.MAC1Data(), load.MAC1(), load.MAC2Data(date, clock))
	return load, plain(purse.CreditForLoad(h.profile, date, clock, mac2))
}

func (h *host) load(p purse.Purse, amount purse.Fen) purse.Load {
	h.t.Helper()
	load, credit := h.openLoad(p, amount)
	h.verifyTAC(load.TACData(date, clock), h.ok(credit))
	return load
}

func (h *host) openUnload(amount purse.Fen) (purse.Unload, command) {
	h.t.Helper()
	p := h.profile.UnloadPurse()
	init, err := purse.ParseUnloadInit(h.ok(built(purse.InitializeForUnload(h.profile, p, amount, terminal))))
	require.NoError(h.t, err)
	unload, err := purse.NewUnload(h.profile, init, p, amount, terminal)
	require.NoError(h.t, err)
	mac2 := h.answer(purse.KeyUnload, unload.SessionInput(), unload.MAC1Data(), unload.MAC1(), unload.MAC2Data(date, clock))
	return unload, plain(purse.DebitForUnload(date, clock, mac2))
}

func (h *host) unload(amount purse.Fen) {
	h.t.Helper()
	unload, debit := h.openUnload(amount)
	h.verifySession(purse.KeyUnload, unload.SessionInput(), unload.MAC3Data(date, clock), h.ok(debit))
}

func (h *host) openOverdraft(limit purse.Limit) (purse.Overdraft, command) {
	h.t.Helper()
	init, err := purse.ParseOverdraftInit(h.ok(plain(purse.InitializeForUpdate(h.profile, terminal))))
	require.NoError(h.t, err)
	o, err := purse.NewOverdraft(init, limit, terminal)
	require.NoError(h.t, err)
	mac2 := h.answer(purse.KeyOverdraft, o.SessionInput(), o.MAC1Data(), o.MAC1(), o.MAC2Data(date, clock))
	return o, plain(purse.UpdateOverdraftLimit(limit, date, clock, mac2))
}

func (h *host) overdraft(limit purse.Limit) {
	h.t.Helper()
	o, update := h.openOverdraft(limit)
	h.verifyTAC(o.TACData(date, clock), h.ok(update))
}

// openPurchase initialises a purchase and makes the terminal's MAC1; a compound one gets its record on the way.
func (h *host) openPurchase(tti purse.TTI, tsn purse.TSN, amount purse.Fen) (purse.Purchase, command) {
	h.t.Helper()
	init, err := purse.ParsePurchaseInit(h.ok(built(purse.InitializeForPurchase(h.profile, tti, amount, terminal))))
	require.NoError(h.t, err)
	buy, err := purse.NewPurchase(init, tti, tsn, amount, terminal)
	require.NoError(h.t, err)
	if tti == purse.TTICompound {
		h.ok(built(purse.UpdateCAPPCache(0x01, 0x17<<3|4, []byte("gate 042"))))
	}
	var mac1 purse.MAC
	require.NoError(h.t, h.with(purse.KeyPurchase, func(card keyderive.Card) error {
		session, err := card.Session(buy.SessionInput())
		require.NoError(h.t, err)
		mac1, err = session.MAC(buy.MAC1Data(date, clock))
		return err
	}))
	return buy, plain(buy.Debit(h.profile, date, clock, mac1))
}

func (h *host) buy(tti purse.TTI, tsn purse.TSN, amount purse.Fen) {
	h.t.Helper()
	buy, debit := h.openPurchase(tti, tsn, amount)
	answer, err := purse.ParseDebitAnswer(h.ok(debit))
	require.NoError(h.t, err)
	h.verifySession(purse.KeyPurchase, buy.SessionInput(), buy.MAC2Data(), answer.MAC2[:])
	h.verifyTAC(buy.TACData(date, clock), answer.TAC[:])
}

// secure builds a command under a fresh challenge.
func (h *host) secure(c purse.SecureCommand) command {
	h.t.Helper()
	challenge := h.ok(plain(purse.Challenge(h.profile)))
	var made command
	require.NoError(h.t, h.with(c.Key(), func(card keyderive.Card) error {
		m, err := card.Messaging()
		require.NoError(h.t, err)
		made = built(c.Build(h.profile, challenge, m))
		return nil
	}))
	return made
}

// reload builds RELOAD PIN.
func (h *host) reload(digits string) command {
	h.t.Helper()
	var made command
	require.NoError(h.t, h.with(purse.KeyPINReload, func(card keyderive.Card) error {
		m, err := card.Reload()
		require.NoError(h.t, err)
		made = built(purse.ReloadPIN{PIN: pin(h.t, digits)}.Build(h.profile, m))
		return nil
	}))
	return made
}

// authenticate builds EXTERNAL AUTHENTICATE under a fresh challenge of n bytes.
func (h *host) authenticate(n int) command {
	h.t.Helper()
	get := purse.Challenge(h.profile)
	get.Expect = n
	challenge := h.ok(plain(get))
	var made command
	require.NoError(h.t, h.with(purse.KeyControl, func(card keyderive.Card) error {
		m, err := card.Messaging()
		require.NoError(h.t, err)
		cryptogram, err := purse.ExternalCryptogram(h.profile, h.alg, challenge, m)
		require.NoError(h.t, err)
		made = built(purse.ExternalAuthenticate(0, cryptogram))
		return nil
	}))
	return made
}

func (h *host) balance(p purse.Purse) purse.Fen {
	h.t.Helper()
	balance, err := purse.ParseBalance(h.ok(built(purse.QueryBalance(p))))
	require.NoError(h.t, err)
	return balance
}

func (h *host) snapshot() string {
	h.t.Helper()
	snapshot, err := h.card.Snapshot()
	require.NoError(h.t, err)
	return string(snapshot)
}
