package rpc

import (
	"bytes"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/store"
)

// testCard is the demonstration card in software, selected: 1000 fen, counter 7.
func testCard(t *testing.T) *softcard.Card {
	t.Helper()
	profile, err := purse.ShippedProfile(purse.ProfilePBOC)
	require.NoError(t, err)
	factor, err := purse.ParseCardSerial(demoCard)
	require.NoError(t, err)
	keys := map[purse.KeyKind][]softcard.Key{}
	for kind, master := range testMasters {
		value, err := softcard.Diversify(suite.TDES, softcard.KeyValue(unhex(t, master)), [8]byte(unhex(t, testIssuer)), factor)
		require.NoError(t, err)
		keys[purse.KeyKind(kind.String())] = []softcard.Key{{Version: 1, Value: value}}
	}
	card, err := softcard.Personalise(softcard.Options{
		Algorithm: suite.TDES, Profile: profile, Serial: demoCard, Keys: keys, EP: softcard.Account{Balance: 1000, Online: 7},
		Random: io.MultiReader(bytes.NewReader([]byte{0xA1, 0xB2, 0xC3, 0xD4}), rand.NewChaCha8([32]byte{1})),
	})
	require.NoError(t, err)
	aid, err := purse.SelectApplication(softcard.DefaultAID())
	require.NoError(t, err)
	tell(t, card, aid.Hex())
	return card
}

// tell sends a command of an answer to the card, which must take it, and returns what the card says.
func tell(t *testing.T, card *softcard.Card, command string) string {
	t.Helper()
	answer := card.Transmit(unhex(t, command))
	require.GreaterOrEqual(t, len(answer), 2)
	require.Equal(t, []byte{0x90, 0}, answer[len(answer)-2:])
	return hex.EncodeToString(answer[:len(answer)-2])
}

const initializeDemo = "805000020B01" + "00000064" + "112233445566" + "10"

// A card in software and the service over gRPC: a load whose MAC2 never reached the card is settled as not applied, the next
// one is taken and verified, and the third is inferred from the counter. Each answer is whole.
func TestTheStoryOfACard(t *testing.T) {
	w := newWorld(t)
	client := w.as("platform").signer(connect.WithGRPC())
	card := testCard(t)
	load := func() *v1.AuthorizeLoadResponse {
		m := demoMessage()
		m.InitializeResponse = tell(t, card, initializeDemo)
		answer, err := client.AuthorizeLoad(t.Context(), m)
		require.NoError(t, err)
		require.Equal(t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome, answer.Detail)
		return answer
	}
	first := load()
	require.Equal(t, demoMAC2, first.Mac2)

	begun, err := client.BeginSettlement(t.Context(), &v1.BeginSettlementRequest{KeySet: "demo", CardSerial: demoCard, Purse: v1.Purse_PURSE_EP})
	require.NoError(t, err)
	try := &v1.SettleLoadRequest{SettlementId: begun.SettlementId, InitializeResponse: tell(t, card, begun.Command)}
	settled, err := client.SettleLoad(t.Context(), try)
	require.NoError(t, err)
	want := &v1.SettleLoadResponse{
		Outcome: v1.Outcome_OUTCOME_VERIFIED, Key: first.Key, Boundary: first.Boundary, AuditIndex: begun.AuditIndex + 1,
		Settled: []*v1.Settled{{
			TransactionId: demoID, Outcome: v1.Outcome_OUTCOME_NOT_APPLIED, Evidence: v1.Evidence_EVIDENCE_SETTLEMENT,
		}},
	}
	assert.True(t, proto.Equal(want, settled), "%v", settled)
	again, err := client.SettleLoad(t.Context(), try)
	require.NoError(t, err)
	assert.True(t, proto.Equal(want, again), "%v", again)

	second := load()
	tac := tell(t, card, second.Command)
	confirmed, err := client.ConfirmLoad(t.Context(), &v1.ConfirmLoadRequest{TransactionId: second.TransactionId, Tac: tac})
	require.NoError(t, err)
	kcv := confirmed.GetKey().GetKcv()
	assert.Len(t, kcv, 6)
	assert.True(t, proto.Equal(&v1.ConfirmLoadResponse{
		Outcome: v1.Outcome_OUTCOME_VERIFIED, TransactionId: second.TransactionId, Boundary: v1.Boundary_BOUNDARY_PROCESS,
		AuditIndex: second.AuditIndex + 1, Key: &v1.Key{Set: "demo", Kind: "tac", Version: 1, Kcv: kcv},
	}, confirmed), "%v", confirmed)

	third := load()
	tell(t, card, third.Command) // and its TAC is lost
	fourth := load()
	require.Len(t, fourth.Settled, 1)
	assert.True(t, proto.Equal(&v1.Settled{
		TransactionId: third.TransactionId, Outcome: v1.Outcome_OUTCOME_APPLIED, Evidence: v1.Evidence_EVIDENCE_COUNTER,
	}, fourth.Settled[0]), "%v", fourth.Settled)
	listPages(t, w, []string{first.TransactionId, second.TransactionId, third.TransactionId, fourth.TransactionId})
}

// listPages walks the list a transaction at a time.
func listPages(t *testing.T, w *world, ids []string) {
	t.Helper()
	client := w.as("auditor").signer()
	states := []v1.State{v1.State_STATE_NOT_APPLIED, v1.State_STATE_VERIFIED, v1.State_STATE_APPLIED, v1.State_STATE_OPEN}
	request := &v1.ListTransactionsRequest{KeySet: "demo", CardSerial: demoCard, Purse: v1.Purse_PURSE_EP, PageSize: 1}
	for i, id := range ids {
		page, err := client.ListTransactions(t.Context(), request)
		require.NoError(t, err)
		require.Len(t, page.Transactions, 1)
		assert.Equal(t, id, page.Transactions[0].TransactionId)
		assert.Equal(t, states[i], page.Transactions[0].State)
		assert.Equal(t, i == len(ids)-1, page.NextPageToken == "")
		request.PageToken = page.NextPageToken
	}
	open, err := client.ListTransactions(t.Context(), &v1.ListTransactionsRequest{KeySet: "demo", OpenOnly: true})
	require.NoError(t, err)
	require.Len(t, open.Transactions, 1)
	assert.Equal(t, ids[3], open.Transactions[0].TransactionId)
	other, err := client.ListTransactions(t.Context(), &v1.ListTransactionsRequest{KeySet: "demo", Purse: v1.Purse_PURSE_ED})
	require.NoError(t, err)
	assert.Empty(t, other.Transactions)
}

// A recorded transaction is written whole: no field of the message is left out.
func TestTransactionsAreWrittenWhole(t *testing.T) {
	m := writeTransaction(store.Listed{
		Purse: store.PurseKey{KeySet: "demo", Card: "1000100010001000-" + demoCard, Purse: "ED"},
		Attempt: store.Attempt{
			AttemptKey: store.AttemptKey{Counter: 7, Random: "A1B2C3D4"}, ID: "id", Operation: "OVERDRAFT", Amount: 1, OldLimit: 10, Balance: 2,
			Terminal: "3", Date: "4", Time: "5", KeyVersion: 6, KCV: "8", Boundary: "CARD", AuditIndex: 9,
			State: store.NotApplied, Evidence: store.BySibling, Contradicted: true,
		},
	})
	want := &v1.Transaction{
		TransactionId: "id", State: v1.State_STATE_NOT_APPLIED, Evidence: v1.Evidence_EVIDENCE_SIBLING, KeySet: "demo",
		CardSerial: demoCard, IssuerId: "1000100010001000", Purse: v1.Purse_PURSE_ED, Operation: "OVERDRAFT", Counter: 7, AmountFen: 1, BalanceFen: 2, OldLimitFen: 10, TerminalId: "3",
		Date: "4", Time: "5", Key: &v1.Key{Set: "demo", Kind: "overdraft", Version: 6, Kcv: "8"}, Boundary: v1.Boundary_BOUNDARY_CARD,
		AuditIndex: 9, Contradicted: true,
	}
	assert.True(t, proto.Equal(want, m), "%v", m)
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		assert.True(t, m.ProtoReflect().Has(fields.Get(i)), "%s", fields.Get(i).Name())
	}
}
