package signer

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

const readerIdentity = "spiffe://pursekeeper.test/reader"

// tillMasters are the masters of a shop's key set. Published test keys, never real ones.
var tillMasters = map[keyderive.Kind]softcard.KeyValue{
	keyderive.KindPurchase: softcard.TestOnlyMasters()[purse.KeyPurchase],
	keyderive.KindTAC:      softcard.TestOnlyMasters()[purse.KeyTAC],
	keyderive.KindReader:   {0x5A, 0x69, 0x78, 0x87, 0x96, 0xA5, 0xB4, 0xC3, 0xD2, 0xE1, 0xF0, 0x0F, 0x1E, 0x2D, 0x3C, 0x4B},
}

// till is a terminal that has its MAC1s from the signer, and a card in it.
type till struct {
	*bench
	t    testing.TB
	alg  suite.Algorithm
	card *softcard.Card
	set  KeySet
}

// tillKeySet is a key set with the keys of a till.
func tillKeySet(t testing.TB, alg suite.Algorithm, profileName string) KeySet {
	t.Helper()
	set := testKeySet(t, "demo", alg)
	set.Versions = nil
	profile, err := purse.ShippedProfile(profileName)
	require.NoError(t, err)
	set.Profile = profile
	for kind, master := range tillMasters {
		key, err := keyderive.InMemory(alg, secret.Take(append([]byte(nil), master[:]...)))
		require.NoError(t, err)
		block, err := alg.New(master[:])
		require.NoError(t, err)
		set.Versions = append(set.Versions, Version{
			Kind: kind, Number: 1, State: custody.Active, Boundary: keyderive.BoundaryProcess, KCV: kcv.Of(block), Key: key,
		})
	}
	return set
}

func newTill(t testing.TB, alg suite.Algorithm, profileName string, change ...func(*Config)) *till {
	t.Helper()
	l := &till{t: t, alg: alg, set: tillKeySet(t, alg, profileName)}
	rules := func(c *Config) {
		c.KeySets = []KeySet{l.set}
		c.Policy = tillPolicy(t, 0)
	}
	l.bench = newBench(t, append([]func(*Config){rules}, append(change, func(c *Config) { l.set = c.KeySets[0] })...)...)
	l.reopenAs(readerIdentity)
	factor, err := purse.ParseCardSerial(testSerial)
	require.NoError(t, err)
	masters := map[purse.KeyKind]softcard.KeyValue{
		purse.KeyPurchase: tillMasters[keyderive.KindPurchase], purse.KeyTAC: tillMasters[keyderive.KindTAC],
	}
	keys, err := softcard.CardKeys(alg, masters, 1, [8]byte(unhex(t, "1000100010001000")), factor)
	require.NoError(t, err)
	l.card, err = softcard.Personalise(softcard.Options{
		Algorithm: alg, Profile: l.set.Profile, Serial: testSerial, Keys: keys, Random: new(counting),
		ED: softcard.Account{Balance: 1000, Offline: 3}, EP: softcard.Account{Balance: 1000, Offline: 3},
		Records: map[byte][][]byte{0x17: {make([]byte, 8)}},
	})
	require.NoError(t, err)
	l.power()
	return l
}

// reopenAs takes the caller of an identity.
func (l *till) reopenAs(identity string) {
	l.t.Helper()
	var err error
	l.caller, err = l.Identify(context.Background(), []string{identity})
	require.NoError(l.t, err)
}

func tillPolicy(t testing.TB, ceiling uint64) *policy.Policy {
	t.Helper()
	client := func(name string, role policy.Role) policy.Client {
		return policy.Client{
			Name: name, Identity: "spiffe://pursekeeper.test/" + name, Role: role, KeySets: []string{"demo"}, MaxAmountFen: ceiling,
		}
	}
	p, err := policy.New(policy.Rules{Clients: []policy.Client{
		client("platform", policy.Platform), client("officer", policy.Officer), client("reader", policy.Reader),
		client("other-reader", policy.Reader),
	}})
	require.NoError(t, err)
	return p
}

func (l *till) send(a purse.APDU, err error) []byte {
	l.t.Helper()
	require.NoError(l.t, err)
	answer, sw, err := l.card.Send(a)
	require.NoError(l.t, err)
	require.Equal(l.t, purse.SWOK, sw, a.Hex())
	return answer
}

func (l *till) power() {
	l.t.Helper()
	l.card.Reset()
	l.send(purse.SelectApplication(softcard.DefaultAID()))
}

// ask is a request for what the card says now.
func (l *till) ask(tti purse.TTI) PurchaseRequest {
	l.t.Helper()
	terminal, err := purse.ParseTerminal(testTerminal)
	require.NoError(l.t, err)
	answer := l.send(purse.InitializeForPurchase(l.set.Profile, tti, 100, terminal))
	return PurchaseRequest{
		KeySet: "demo", CardSerial: testSerial, Type: fmt.Sprintf("%02X", uint8(tti)), AmountFen: 100, TerminalID: testTerminal,
		InitializeResponse: upperHex(answer), Date: "20240131", Time: "235959",
	}
}

func (l *till) begin(r PurchaseRequest) Bargain {
	l.t.Helper()
	b, err := l.BeginPurchase(context.Background(), l.caller, r)
	require.NoError(l.t, err)
	return b
}

func (l *till) approved(r PurchaseRequest) Bargain {
	l.t.Helper()
	b := l.begin(r)
	require.Equal(l.t, ledger.Approved, b.Outcome, b.Detail)
	return b
}

// pay gives the card its command.
func (l *till) pay(tti purse.TTI, b Bargain) purse.DebitAnswer {
	l.t.Helper()
	if tti == purse.TTICompound {
		l.send(purse.UpdateCAPPCache(0x01, 0x17<<3|4, make([]byte, 8)))
	}
	raw := l.card.Transmit(unhex(l.t, b.Command))
	require.GreaterOrEqual(l.t, len(raw), 2)
	require.Equal(l.t, "9000", upperHex(raw[len(raw)-2:]), "DEBIT FOR PURCHASE")
	answer, err := purse.ParseDebitAnswer(raw[:len(raw)-2])
	require.NoError(l.t, err)
	return answer
}

func (l *till) complete(id, mac2, tac string) Receipt {
	l.t.Helper()
	r, err := l.CompletePurchase(context.Background(), l.caller, id, mac2, tac)
	require.NoError(l.t, err)
	return r
}

// A card in software pays, by each type, in both suites and under each shipped profile: it takes MAC1, and its MAC2 and TAC are
// verified.
func TestACardPays(t *testing.T) {
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		for _, profile := range []string{"pboc-ep", "transport", "fmcos"} {
			l := newTill(t, alg, profile)
			serial := 0
			for tti, word := range map[purse.TTI]string{
				purse.TTIPurchaseED: "ED/PURCHASE", purse.TTIPurchaseEP: "EP/PURCHASE", purse.TTICashWithdrawal: "ED/CASH",
				purse.TTICompound: "EP/COMPOUND",
			} {
				r := l.ask(tti)
				b := l.approved(r)
				serial++
				assert.Equal(t, fmt.Sprintf("%08X", serial), b.TerminalSerial)
				assert.Equal(t, fmt.Sprintf("demo/%s/%s/%s/%s", testSerial, word, r.InitializeResponse[8:12], r.InitializeResponse[22:]), b.PurchaseID)
				assert.Equal(t, b, l.begin(r), "the same request again")
				answer := l.pay(tti, b)
				mac2, tac := upperHex(answer.MAC2[:]), upperHex(answer.TAC[:])
				assert.Equal(t, ledger.MACMismatch, l.complete(b.PurchaseID, falsified(mac2), tac).Outcome)
				assert.Equal(t, ledger.TACMismatch, l.complete(b.PurchaseID, mac2, falsified(tac)).Outcome)
				paid := l.complete(b.PurchaseID, mac2, tac)
				assert.Equal(t, ledger.Verified, paid.Outcome, "%v %s %s: %s", alg, profile, word, paid.Detail)
				assert.Equal(t, []string{"purchase", "tac"}, []string{paid.Key.Kind, paid.TACKey.Kind})
				assert.Equal(t, ledger.Verified, l.complete(b.PurchaseID, mac2, tac).Outcome, "the right one again")
				assert.Equal(t, b, l.begin(r), "its MAC1 is the recorded one for ever")
			}
		}
	}
}

// An answer of the card has one purchase: another request with it is a conflict, and takes no serial number.
func TestOneAnswerHasOnePurchase(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	r := l.ask(purse.TTIPurchaseEP)
	b := l.approved(r)
	for name, change := range map[string]func(*PurchaseRequest){
		"amount":   func(r *PurchaseRequest) { r.AmountFen++ },
		"terminal": func(r *PurchaseRequest) { r.TerminalID = "112233445567" },
		"type":     func(r *PurchaseRequest) { r.Type = "09" },
		"purse":    func(r *PurchaseRequest) { r.Type, r.TerminalID = "05", "112233445567" }, // one payment would make two
		"date":     func(r *PurchaseRequest) { r.Date = "20240201" },
		"time":     func(r *PurchaseRequest) { r.Time = "235958" },
		"balance":  func(r *PurchaseRequest) { r.InitializeResponse = "000003E9" + r.InitializeResponse[8:] },
	} {
		other := r
		change(&other)
		conflict := l.begin(other)
		assert.Equal(t, ledger.CounterConflict, conflict.Outcome, name)
		assert.Empty(t, conflict.MAC1+conflict.Command+conflict.TerminalSerial+conflict.PurchaseID, name)
		assert.Equal(t, "20240131", conflict.Date, name)
	}
	same := r
	same.Date, same.Time = "", ""
	same.InitializeResponse = r.InitializeResponse[:20] + "7F" + r.InitializeResponse[22:] // ALG
	assert.Equal(t, b, l.begin(same), "date and time left out, another ALG byte")
	l.power()
	assert.Equal(t, "00000002", l.approved(l.ask(purse.TTIPurchaseEP)).TerminalSerial)
	outcomes := map[string]int{}
	for _, e := range l.entries(t) {
		if e.Event == "BeginPurchase" {
			outcomes[e.Outcome]++
			assert.Equal(t, e.Outcome == "APPROVED", e.MAC1 != "")
			assert.Equal(t, e.Outcome == "APPROVED", e.Inputs.TerminalSerial != "")
		}
	}
	assert.Equal(t, map[string]int{"APPROVED": 2, "COUNTER_CONFLICT": 7}, outcomes)
}

// The same request, sent many times at once, yields one MAC1 and one purchase; many others at once yield a serial number each.
func TestPurchasesAtOnce(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	r := l.ask(purse.TTIPurchaseEP)
	var all sync.WaitGroup
	answers := make([]Bargain, 64)
	for i := range answers {
		all.Go(func() {
			var err error
			answers[i], err = l.BeginPurchase(context.Background(), l.caller, r)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	for _, a := range answers {
		require.Equal(t, answers[0], a)
	}
	require.Equal(t, ledger.Approved, answers[0].Outcome)
	approved := 0
	for _, e := range l.entries(t) {
		if e.MAC1 != "" {
			approved++
		}
	}
	require.Equal(t, 1, approved, "one entry")

	serials := make([]string, 64)
	for i := range serials {
		all.Go(func() {
			other := r
			other.InitializeResponse = r.InitializeResponse[:22] + fmt.Sprintf("%08X", i)
			b, err := l.BeginPurchase(context.Background(), l.caller, other)
			assert.NoError(t, err)
			serials[i] = b.TerminalSerial
		})
	}
	all.Wait()
	seen := map[string]bool{answers[0].TerminalSerial: true}
	for _, serial := range serials {
		require.False(t, seen[serial], serial)
		seen[serial] = true
	}
}

// What a purchase is refused for is recorded; nothing leaves, and no serial number is taken.
func TestRefusedPurchases(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep", func(c *Config) { c.Policy = tillPolicy(t, 99) })
	r := l.ask(purse.TTIPurchaseEP)
	b := l.begin(r)
	assert.Equal(t, ledger.LimitExceeded, b.Outcome)
	assert.Empty(t, b.MAC1)
	r.AmountFen = 99
	assert.Equal(t, "00000001", l.approved(r).TerminalSerial)

	unknown := r
	unknown.InitializeResponse = r.InitializeResponse[:18] + "02" + r.InitializeResponse[20:]
	b = l.begin(unknown)
	assert.Equal(t, ledger.KeyNotActive, b.Outcome)
	assert.Equal(t, KeyUsed{Key: audit.Key{Set: "demo", Kind: "purchase", Version: 2}}, b.Key)

	terminal := store.TerminalKey{KeySet: "demo", Terminal: testTerminal}
	require.NoError(t, l.store.Commit(t.Context(), store.Change{Terminal: terminal, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Terminal().Last = math.MaxUint32 - 1
		return nil, nil
	}}))
	next := func(random string) Bargain {
		other := r
		other.InitializeResponse = r.InitializeResponse[:22] + random
		return l.begin(other)
	}
	assert.Equal(t, "FFFFFFFF", next("00000001").TerminalSerial)
	exhausted := next("00000002")
	assert.Equal(t, ledger.TerminalExhausted, exhausted.Outcome)
	assert.Empty(t, exhausted.MAC1+exhausted.TerminalSerial+exhausted.PurchaseID)
	assert.Equal(t, "TERMINAL_EXHAUSTED", l.entries(t)[exhausted.AuditIndex].Outcome)
	assert.Equal(t, "FFFFFFFF", next("00000001").TerminalSerial, "what is recorded is answered still")
}

// Five wrong values, and a purchase takes no more: neither a wrong one nor the right one.
func TestFiveWrongValues(t *testing.T) {
	l := newTill(t, suite.SM4, "pboc-ep")
	r := l.ask(purse.TTIPurchaseEP)
	b := l.approved(r)
	answer := l.pay(purse.TTIPurchaseEP, b)
	mac2, tac := upperHex(answer.MAC2[:]), upperHex(answer.TAC[:])
	for n := range 4 {
		assert.Equal(t, ledger.MACMismatch, l.complete(b.PurchaseID, fmt.Sprintf("0000000%d", n), "").Outcome)
	}
	assert.Contains(t, l.complete(b.PurchaseID, "00000000", "").Detail, "wrong before")
	assert.Equal(t, ledger.Verified, l.complete(b.PurchaseID, mac2, "").Outcome)
	for n := range 5 {
		assert.Equal(t, ledger.TACMismatch, l.complete(b.PurchaseID, mac2, fmt.Sprintf("0000000%d", n)).Outcome)
	}
	over := l.complete(b.PurchaseID, mac2, tac)
	assert.Equal(t, ledger.TACMismatch, over.Outcome)
	assert.Contains(t, over.Detail, "no more values")
	assert.Equal(t, ledger.Verified, l.complete(b.PurchaseID, mac2, "").Outcome, "MAC2 was right, and is")

	l.power()
	b = l.approved(l.ask(purse.TTIPurchaseEP))
	answer = l.pay(purse.TTIPurchaseEP, b)
	for n := range 5 {
		assert.Equal(t, ledger.MACMismatch, l.complete(b.PurchaseID, fmt.Sprintf("0000000%d", n), "").Outcome)
	}
	assert.Equal(t, ledger.MACMismatch, l.complete(b.PurchaseID, upperHex(answer.MAC2[:]), "").Outcome)
	found, err := l.store.Purchase(t.Context(), store.PurseKey{KeySet: "demo", Card: testSerial}, store.AttemptKey{Counter: 4, Random: b.PurchaseID[len(b.PurchaseID)-8:]})
	require.NoError(t, err)
	assert.Equal(t, store.Open, found.State)
	assert.Len(t, found.WrongMAC2s, 5)
}

// Which keys verify, and what is said of a compromised one.
func TestKeysOfAReceipt(t *testing.T) {
	for _, c := range []struct {
		kind    keyderive.Kind
		state   custody.KeyState
		tac     bool
		outcome ledger.Outcome
		detail  string
	}{
		{keyderive.KindPurchase, custody.Deactivated, true, ledger.Verified, ""},
		{keyderive.KindPurchase, custody.Compromised, true, ledger.Verified, detailCompromised},
		{keyderive.KindPurchase, custody.Suspended, true, ledger.KeyNotActive, "the purchase key of this purchase may not verify"},
		{keyderive.KindTAC, custody.Compromised, true, ledger.Verified, detailCompromised},
		{keyderive.KindTAC, custody.Compromised, false, ledger.Verified, ""},
		{keyderive.KindTAC, custody.Suspended, true, ledger.KeyNotActive, "no TAC key of this epoch may verify"},
		{keyderive.KindTAC, custody.Suspended, false, ledger.Verified, ""},
	} {
		l := newTill(t, suite.TDES, "pboc-ep")
		b := l.approved(l.ask(purse.TTIPurchaseEP))
		answer := l.pay(purse.TTIPurchaseEP, b)
		set := l.current.Load().sets["demo"]
		v := set.versions[c.kind][1]
		v.State = c.state
		set.versions[c.kind][1] = v
		tac := ""
		if c.tac {
			tac = upperHex(answer.TAC[:])
		}
		r := l.complete(b.PurchaseID, upperHex(answer.MAC2[:]), tac)
		assert.Equal(t, c.outcome, r.Outcome, "%+v", c)
		assert.Equal(t, c.detail, r.Detail, "%+v", c)
		e := l.entries(t)[r.AuditIndex]
		assert.Equal(t, string(c.outcome), e.Outcome)
		assert.Equal(t, c.tac, e.TACKey != nil)
	}
}

// A failed commit lets no MAC1 out, and the serial number that it was made with is not used again.
func TestAFailedCommitLetsNoMAC1Out(t *testing.T) {
	for name, after := range map[string]bool{"before": false, "persisted": true} {
		var faulty *saleFaults
		l := newTill(t, suite.TDES, "pboc-ep", func(c *Config) {
			faulty = &saleFaults{Store: c.Store, after: after}
			c.Store = faulty
		})
		r := l.ask(purse.TTIPurchaseEP)
		faulty.left = 2 // the commit of the purchase
		b, err := l.BeginPurchase(t.Context(), l.caller, r)
		require.ErrorIs(t, err, store.ErrUnavailable, name)
		require.Empty(t, b)
		faulty.left = 0
		want := map[bool]string{false: "00000002", true: "00000001"}[after]
		assert.Equal(t, want, l.approved(r).TerminalSerial, name)
		l.pay(purse.TTIPurchaseEP, l.approved(r))
	}
}

// saleFaults fails its left-th commit from now.
type saleFaults struct {
	store.Store
	left  int
	after bool
}

func (s *saleFaults) Commit(ctx context.Context, c store.Change) error {
	if s.left--; s.left != 0 {
		return s.Store.Commit(ctx, c)
	}
	if s.after {
		if err := s.Store.Commit(ctx, c); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: test: %w", store.ErrUnavailable, io.ErrUnexpectedEOF)
}

// Two requests that both have a serial number before either is recorded: one purchase, and the other number stays unused.
func TestTwoRequestsThatBothHaveASerialNumber(t *testing.T) {
	for _, other := range []uint64{100, 101} { // the same request, and another one with the same answer of the card
		var meeting *saleMeeting
		l := newTill(t, suite.TDES, "pboc-ep", func(c *Config) {
			meeting = &saleMeeting{Store: c.Store, met: make(chan struct{})}
			c.Store = meeting
		})
		r := l.ask(purse.TTIPurchaseEP)
		meeting.expected.Store(2)
		answers := make([]Bargain, 2)
		var both sync.WaitGroup
		for i, amount := range []uint64{100, other} {
			both.Go(func() {
				mine := r
				mine.AmountFen = amount
				var err error
				answers[i], err = l.BeginPurchase(context.Background(), l.caller, mine)
				assert.NoError(t, err)
			})
		}
		both.Wait()
		if other == 100 {
			assert.Equal(t, answers[0], answers[1])
			assert.Equal(t, ledger.Approved, answers[0].Outcome)
		} else {
			assert.ElementsMatch(t, []ledger.Outcome{ledger.Approved, ledger.CounterConflict}, []ledger.Outcome{answers[0].Outcome, answers[1].Outcome})
			assert.NotEqual(t, answers[0].MAC1 == "", answers[1].MAC1 == "", "one MAC1")
		}
		l.power()
		assert.Equal(t, "00000003", l.approved(l.ask(purse.TTIPurchaseEP)).TerminalSerial)
	}
}

// saleMeeting holds the answers of the first commits until as many as are expected have committed.
type saleMeeting struct {
	store.Store
	expected atomic.Int64
	met      chan struct{}
}

func (s *saleMeeting) Commit(ctx context.Context, c store.Change) error {
	err := s.Store.Commit(ctx, c)
	switch left := s.expected.Add(-1); {
	case left == 0:
		close(s.met)
	case left > 0:
		<-s.met
	}
	return err
}
