package signer

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

const (
	testSerial   = "3105228000001117"
	testTerminal = "112233445566"
	noTAC        = ""
)

// counting is a card's random source: it never repeats four bytes.
type counting struct{ next uint32 }

func (c *counting) Read(p []byte) (int, error) {
	for at := 0; at < len(p); at += 4 {
		c.next++
		copy(p[at:], binary.BigEndian.AppendUint32(nil, c.next*0x9E3779B1))
	}
	return len(p), nil
}

// wallet is a card in a reader and the client in front of it, who asks the signer. Its purse is EP with 10 yuan, at counter 7.
type wallet struct {
	*bench
	t      testing.TB
	card   *softcard.Card
	serial string
}

func newWallet(t testing.TB, change ...func(*Config)) *wallet {
	t.Helper()
	return newBench(t, change...).wallet(t, testSerial, softcard.Account{Balance: 1000, Online: 7})
}

func (b *bench) wallet(t testing.TB, serial string, ep softcard.Account) *wallet {
	t.Helper()
	w := &wallet{bench: b, t: t, card: personalise(t, serial, ep), serial: serial}
	w.choose()
	return w
}

// personalise makes the card of a serial number in the demonstration key set.
func personalise(t testing.TB, serial string, ep softcard.Account) *softcard.Card {
	t.Helper()
	factor, err := purse.ParseCardSerial(serial)
	require.NoError(t, err)
	masters := map[purse.KeyKind]softcard.KeyValue{
		purse.KeyLoad: softcard.KeyValue(unhex(t, testMasters[keyderive.KindLoad])),
		purse.KeyTAC:  softcard.KeyValue(unhex(t, testMasters[keyderive.KindTAC])),
	}
	keys, err := softcard.CardKeys(suite.TDES, masters, 1, [8]byte(unhex(t, "1000100010001000")), factor)
	require.NoError(t, err)
	profile, err := purse.ShippedProfile("pboc-ep")
	require.NoError(t, err)
	card, err := softcard.Personalise(softcard.Options{
		Algorithm: suite.TDES, Profile: profile, Serial: serial, Keys: keys, Random: new(counting),
		ED: softcard.Account{Balance: 1000, Online: 7}, EP: ep,
	})
	require.NoError(t, err)
	return card
}

// choose selects the application, as a reader does when the power comes back.
func (w *wallet) choose() {
	w.t.Helper()
	apdu, err := purse.SelectApplication(softcard.DefaultAID())
	require.NoError(w.t, err)
	_, sw, err := w.card.Send(apdu)
	require.NoError(w.t, err)
	require.Equal(w.t, purse.SWOK, sw)
}

// send gives the card a command in hex; ok is false when it refused, or lost its power.
func (w *wallet) send(command string) (answer string, ok bool) {
	raw := w.card.Transmit(unhex(w.t, command))
	if len(raw) < 2 || [2]byte(raw[len(raw)-2:]) != [2]byte{0x90, 0x00} {
		return "", false
	}
	return strings.ToUpper(hex.EncodeToString(raw[:len(raw)-2])), true
}

// initialise has the card answer INITIALIZE FOR LOAD.
func (w *wallet) initialise(amount purse.Fen, terminalID string) (answer string) {
	w.t.Helper()
	profile, err := purse.ShippedProfile("pboc-ep")
	require.NoError(w.t, err)
	terminal, err := purse.ParseTerminal(terminalID)
	require.NoError(w.t, err)
	apdu, err := purse.InitializeForLoad(profile, purse.EP, amount, terminal)
	require.NoError(w.t, err)
	answer, ok := w.send(apdu.Hex())
	require.True(w.t, ok, "INITIALIZE FOR LOAD")
	return answer
}

// offer is an answer for a load of one yuan.
func (w *wallet) offer() string { w.t.Helper(); return w.initialise(100, testTerminal) }

func (w *wallet) request(answer string) LoadRequest {
	return LoadRequest{
		KeySet: "demo", CardSerial: w.serial, Purse: purse.EP, AmountFen: 100, TerminalID: testTerminal,
		InitializeResponse: answer, Date: "20240131", Time: "235959",
	}
}

// authorise asks for a load of one yuan.
func (w *wallet) authorise(answer string, change ...func(*LoadRequest)) Authorization {
	w.t.Helper()
	r := w.request(answer)
	for _, c := range change {
		c(&r)
	}
	a, err := w.AuthorizeLoad(context.Background(), w.caller, r)
	require.NoError(w.t, err)
	return a
}

func (w *wallet) approved(answer string, change ...func(*LoadRequest)) Authorization {
	w.t.Helper()
	a := w.authorise(answer, change...)
	require.Equal(w.t, ledger.Approved, a.Outcome, a.Detail)
	require.NotEmpty(w.t, a.MAC2)
	return a
}

// credit sends the approved command; the card answers its TAC, or noTAC when it does not take the load.
func (w *wallet) credit(a Authorization) (tac string) {
	w.t.Helper()
	tac, _ = w.send(a.Command)
	return tac
}

// load is a whole load up to the card's TAC, which nobody has shown to the signer yet.
func (w *wallet) load() (Authorization, string) {
	w.t.Helper()
	a := w.approved(w.offer())
	tac := w.credit(a)
	require.NotEqual(w.t, noTAC, tac, "the card took the load")
	return a, tac
}

// prove is the TAC that GET TRANSACTION PROVE answers for the load at a counter, noTAC when the card has none.
func (w *wallet) prove(counter uint16) (tac string) {
	w.t.Helper()
	apdu, err := purse.TransactionProve(purse.EP.LoadTTI(), purse.Counter(counter))
	require.NoError(w.t, err)
	answer, ok := w.send(apdu.Hex())
	if !ok {
		return noTAC
	}
	return answer[8:]
}

func (w *wallet) balance() string {
	w.t.Helper()
	apdu, err := purse.QueryBalance(purse.EP)
	require.NoError(w.t, err)
	answer, ok := w.send(apdu.Hex())
	require.True(w.t, ok, "GET BALANCE")
	return answer
}

func (w *wallet) confirm(transactionID, tac string) Confirmation {
	w.t.Helper()
	c, err := w.ConfirmLoad(context.Background(), w.caller, transactionID, tac)
	require.NoError(w.t, err)
	return c
}

func (w *wallet) begin() Settlement {
	w.t.Helper()
	s, err := w.BeginSettlement(context.Background(), w.caller, "demo", w.serial, "", purse.EP)
	require.NoError(w.t, err)
	return s
}

// answerTo is the card's answer to a settlement's INITIALIZE.
func (w *wallet) answerTo(s Settlement) string {
	w.t.Helper()
	answer, ok := w.send(s.Command)
	require.True(w.t, ok)
	return answer
}

func (w *wallet) settle(s Settlement, answer string) Settled {
	w.t.Helper()
	settled, err := w.SettleLoad(context.Background(), w.caller, s.ID, answer)
	require.NoError(w.t, err)
	return settled
}

// state is what is recorded of a transaction, and the evidence for it.
func (w *wallet) state(transactionID string) string {
	w.t.Helper()
	listed, err := w.Transaction(context.Background(), w.caller, transactionID)
	require.NoError(w.t, err)
	return strings.TrimSpace(fmt.Sprint(listed.Attempt.State, " ", listed.Attempt.Evidence))
}

// proved is one line of settled[].
func proved(a Authorization, state store.State, evidence store.Evidence) store.Proved {
	return store.Proved{ID: a.TransactionID, State: state, Evidence: evidence}
}

// falsified is an answer or a TAC with its last digit changed.
func falsified(hex string) string {
	last := "0"
	if strings.HasSuffix(hex, last) {
		last = "1"
	}
	return hex[:len(hex)-1] + last
}

// entries is the whole record; its indexes have no gap.
func (b *bench) entries(t testing.TB) (all []audit.Entry) {
	t.Helper()
	next := uint64(0)
	err := b.store.Entries(context.Background(), 0, func(index uint64, line []byte) bool {
		require.Equal(t, next, index, "the audit record has a gap")
		next++
		e, err := audit.Decode(line)
		require.NoError(t, err)
		all = append(all, e)
		return true
	})
	require.NoError(t, err)
	return all
}

// alarms are the alarms in the record, in order.
func (b *bench) alarms(t testing.TB) (events []audit.Event) {
	t.Helper()
	for _, e := range b.entries(t) {
		if e.Outcome == "ALARM" {
			events = append(events, e.Event)
		}
	}
	return events
}

func (b *bench) officer(t testing.TB) policy.Caller {
	t.Helper()
	officer, err := b.Identify(context.Background(), []string{"spiffe://pursekeeper.test/officer"})
	require.NoError(t, err)
	return officer
}
