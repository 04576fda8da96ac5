package signer

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// What every kind of entry comes to, by event and outcome. A record of everything replays with nothing different.
func TestARecordOfEverythingReplays(t *testing.T) {
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		t.Run(alg.String(), func(t *testing.T) {
			c := newChronicle(t, alg)
			c.writeAll()
			seen := map[string]string{}
			for _, r := range c.replayAll(ReplayRequest{}) {
				key := string(r.Event) + " " + r.Outcome
				if r.Event == "SignCommand" || r.Event == "PersonaliseCard" || r.Event == "VerifyTacs" {
					key = fmt.Sprintf("%s %d", key, r.Index)
				}
				seen[key] = r.Verdict.String() + " " + r.Reason
				require.NotEqual(t, Different, r.Verdict, "%+v", r)
				require.NotEqual(t, KeyGone, r.Verdict, "%+v", r)
			}
			for key, want := range map[string]string{
				"AuthorizeLoad APPROVED": "EQUAL ", "AuthorizeLoad MAC_MISMATCH": "EQUAL ", "AuthorizeLoad COUNTER_STALE": "EQUAL ",
				"AuthorizeLoad CARD_LOCKED": "NOT_REPLAYABLE CARD_LOCKED",
				"ConfirmLoad VERIFIED":      "EQUAL ", "ConfirmLoad TAC_MISMATCH": "EQUAL ",
				"SettleLoad VERIFIED": "EQUAL ", "SettleLoad MAC_MISMATCH": "EQUAL ", "BeginSettlement BEGUN": "NO_MAC ",
				"AuthorizeUnload APPROVED": "EQUAL ", "ConfirmUnload MAC_MISMATCH": "EQUAL ", "ConfirmUnload VERIFIED": "EQUAL ",
				"AuthorizeOverdraft APPROVED": "EQUAL ", "ConfirmOverdraft VERIFIED": "EQUAL ",
				"BeginPurchase APPROVED": "EQUAL ", "BeginPurchase COUNTER_CONFLICT": "NO_MAC ",
				"CompletePurchase VERIFIED": "EQUAL ", "CompletePurchase MAC_MISMATCH": "EQUAL ", "CompletePurchase TAC_MISMATCH": "EQUAL ",
				"VerifyTac VERIFIED": "EQUAL ", "VerifyTac TAC_MISMATCH": "EQUAL ",
				"AuthenticateCard APPROVED": "EQUAL ", "AuthenticateCard VERIFIED": "EQUAL ", "AuthenticateCard MAC_MISMATCH": "EQUAL ",
				"Authenticate MAC_MISMATCH": "NOT_REPLAYABLE READER_SESSION", "Challenge APPROVED": "NO_MAC ",
				"UnlockCard PERMISSION_DENIED": "NO_MAC ", "CardLocked ALARM": "NO_MAC ", "Started OK": "NO_MAC ",
			} {
				assert.Equal(t, want, seen[key], key)
			}
			counts := map[string]int{}
			for key, verdict := range seen {
				event, _, _ := strings.Cut(key, " ")
				counts[event+" "+verdict]++
			}
			assert.Equal(t, 5, counts["SignCommand EQUAL "])
			assert.Equal(t, 1, counts["SignCommand NOT_REPLAYABLE PIN"])
			assert.Equal(t, 1, counts["PersonaliseCard NOT_REPLAYABLE KEY_WRITE"])
			assert.Equal(t, 1, counts["PersonaliseCard NO_MAC "])
			assert.Equal(t, 1, counts["VerifyTacs NOT_REPLAYABLE BATCH"])
			assert.Equal(t, 1, counts["VerifyTacs EQUAL "])
			assert.Equal(t, 1, counts["VerifyTacs NO_MAC "], "a malformed item")
		})
	}
}

// Every operation and every event has its comparison: a new one cannot be forgotten.
func TestEveryEventHasAComparison(t *testing.T) {
	events := map[audit.Event]bool{}
	for _, op := range policy.Operations() {
		events[audit.Event(op)] = true
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), "../audit/entry.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Event" {
				text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				events[audit.Event(text)] = true
			}
		}
		return true
	})
	assert.Greater(t, len(events), 30)
	for event := range events {
		assert.True(t, comparisons[event] != nil || eventsWithoutKeySet[event], "%s cannot be replayed, and nothing says why", event)
	}
}

// An entry that somebody changed, by what was changed in it.
func TestADoctoredEntryIsDifferent(t *testing.T) {
	c := newChronicle(t, suite.TDES)
	c.writeAll()
	entries := c.entries(t)
	find := func(event, outcome string, nth int) uint64 {
		for i, e := range entries {
			if string(e.Event) == event && e.Outcome == outcome {
				if nth--; nth < 0 {
					return uint64(i)
				}
			}
		}
		t.Fatalf("no %s %s", event, outcome)
		return 0
	}
	approved := func(e *audit.Entry) { e.Outcome, e.MAC2 = string(ledger.Approved), "00000000" }
	for _, test := range []struct {
		name, event, outcome string
		change               func(*audit.Entry)
		verdict              Verdict
		reason               string
	}{
		{"MAC2", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.MAC2 = falsified(e.MAC2) }, Different, "MAC2"},
		{"no MAC2", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.MAC2 = "" }, Different, "MAC2"},
		{"amount", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Inputs.AmountFen++ }, Different, "MAC1"},
		{"terminal", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Inputs.Terminal = "112233445567" }, Different, "MAC1"},
		{"date", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Inputs.Date = "20240130" }, Different, "MAC2"},
		{"no date", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Inputs.Date = "" }, Different, "INPUTS"},
		{"initialize", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Inputs.Initialize = "00" }, Different, "INPUTS"},
		{"card", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Card = "3105228000001118" }, Different, "TRANSACTION"},
		{"transaction", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Transaction = falsified(e.Transaction) }, Different, "TRANSACTION"},
		{"no key", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Key = nil }, Different, "KEY"},
		{"key version", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Key.Version = 2 }, Different, "KEY"},
		{"check value", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Key.KCV = "000000" }, Different, "KEY"},
		{"an outcome that is none", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Outcome = "FINE" }, Different, "OUTCOME"},
		{"a refusal made an approval", "AuthorizeLoad", "MAC_MISMATCH", approved, Different, "MAC1"},
		{"an approval made a refusal", "AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.Outcome, e.MAC2 = "MAC_MISMATCH", "" }, Different, "MAC1"},
		{"a MAC2 in a refusal", "AuthorizeLoad", "COUNTER_STALE", func(e *audit.Entry) { e.MAC2 = "00000000" }, Different, "MAC2"},
		{"TAC", "ConfirmLoad", "VERIFIED", func(e *audit.Entry) { e.Inputs.TAC = falsified(e.Inputs.TAC) }, Different, "TAC"},
		{"a wrong TAC made right", "ConfirmLoad", "TAC_MISMATCH", func(e *audit.Entry) { e.Outcome = "VERIFIED" }, Different, "TAC"},
		{"a TAC of no load", "ConfirmLoad", "VERIFIED", func(e *audit.Entry) { e.Transaction = falsified(e.Transaction) }, Different, "TRANSACTION"},
		{"TAC key that is gone", "ConfirmLoad", "VERIFIED", func(e *audit.Entry) { e.Key.Version = 9 }, KeyGone, "full/tac/9"},
		{"settlement's terminal", "SettleLoad", "VERIFIED", func(e *audit.Entry) { e.Inputs.Terminal = "000000000000" }, Different, "MAC1"},
		{"settlement's amount", "SettleLoad", "VERIFIED", func(e *audit.Entry) { e.Inputs.AmountFen = 2 }, Different, "INPUTS"},
		{"settlement made right", "SettleLoad", "MAC_MISMATCH", func(e *audit.Entry) { e.Outcome = "VERIFIED" }, Different, "MAC1"},
		{"MAC3", "ConfirmUnload", "VERIFIED", func(e *audit.Entry) { e.Inputs.MAC3 = falsified(e.Inputs.MAC3) }, Different, "MAC3"},
		{"unload", "AuthorizeUnload", "APPROVED", func(e *audit.Entry) { e.MAC2 = falsified(e.MAC2) }, Different, "MAC2"},
		{"limit", "AuthorizeOverdraft", "APPROVED", func(e *audit.Entry) { e.Inputs.AmountFen++ }, Different, "MAC2"},
		{"overdraft's TAC", "ConfirmOverdraft", "VERIFIED", func(e *audit.Entry) { e.Outcome = "TAC_MISMATCH" }, Different, "TAC"},
		{"purchase's MAC1", "BeginPurchase", "APPROVED", func(e *audit.Entry) { e.MAC1 = falsified(e.MAC1) }, Different, "MAC1"},
		{"purchase's serial", "BeginPurchase", "APPROVED", func(e *audit.Entry) { e.Inputs.TerminalSerial = "00000009" }, Different, "MAC1"},
		{"receipt", "CompletePurchase", "VERIFIED", func(e *audit.Entry) { e.Inputs.MAC2 = falsified(e.Inputs.MAC2) }, Different, "MAC2"},
		{"receipt's TAC", "CompletePurchase", "TAC_MISMATCH", func(e *audit.Entry) { e.Outcome = "VERIFIED" }, Different, "TAC"},
		{"a wrong receipt made right", "CompletePurchase", "MAC_MISMATCH", func(e *audit.Entry) { e.Outcome = "VERIFIED" }, Different, "MAC2"},
		{"VerifyTac", "VerifyTac", "VERIFIED", func(e *audit.Entry) { e.Inputs.AmountFen++ }, Different, "TAC"},
		{"VerifyTacs", "VerifyTacs", "TAC_MISMATCH", func(e *audit.Entry) { e.Outcome = "VERIFIED" }, Different, "TAC"},
		{"command", "SignCommand", "APPROVED", func(e *audit.Entry) { e.Command = falsified(e.Command) }, Different, "COMMAND"},
		{"command's challenge", "SignCommand", "APPROVED", func(e *audit.Entry) { e.Inputs.Challenge = "A1B2C3D5" }, Different, "COMMAND"},
		{"cryptogram", "AuthenticateCard", "APPROVED", func(e *audit.Entry) { e.Command = falsified(e.Command) }, Different, "CRYPTOGRAM"},
		{"a card that did not prove itself", "AuthenticateCard", "MAC_MISMATCH", func(e *audit.Entry) { e.Outcome = "VERIFIED" }, Different, "CRYPTOGRAM"},
		{"written key", "PersonaliseCard", "APPROVED", func(e *audit.Entry) { e.Writes[0].Key.KCV = "000000" }, Different, "KEY"},
	} {
		index := find(test.event, test.outcome, 0)
		c.now.change = map[uint64]func(*audit.Entry){index: test.change}
		result := c.replayAll(ReplayRequest{From: index, To: index + 1})
		require.Len(t, result, 1, test.name)
		assert.Equal(t, test.verdict, result[0].Verdict, "%s: %s", test.name, result[0].Reason)
		assert.Equal(t, test.reason, result[0].Reason, test.name)
	}
	c.now.change = nil

	// A confirmation is compared with its authorisation's entry, not with the database's row of it.
	authorised, confirmed := find("AuthorizeLoad", "APPROVED", 0), find("ConfirmLoad", "VERIFIED", 0)
	c.now.change = map[uint64]func(*audit.Entry){authorised: func(e *audit.Entry) { e.Inputs.AmountFen++ }}
	assert.Equal(t, "TAC", c.replayAll(ReplayRequest{From: confirmed, To: confirmed + 1})[0].Reason)

	// What was not sealed is not compared with any key.
	c.now.change, c.now.altered = nil, map[uint64]bool{authorised: true}
	assert.Equal(t, ReplayedEntry{Index: authorised, Verdict: Different, Reason: "ENTRY"}, c.replayAll(ReplayRequest{From: authorised, To: authorised + 1})[0])
	assert.Equal(t, "TRANSACTION", c.replayAll(ReplayRequest{From: confirmed, To: confirmed + 1})[0].Reason)
	last := c.entries(t)
	assert.Equal(t, "DIFFERENT", last[len(last)-1].Outcome, "the record says that a replay found one")
}

// The answers of a replay have no MAC in them, neither a recorded one nor, for an entry whose MAC was taken out, the one that belongs there.
func TestAReplayAnswersNoMAC(t *testing.T) {
	c := newChronicle(t, suite.TDES)
	c.writeAll()
	var macs []string
	for i, e := range c.entries(t) {
		for _, mac := range []string{e.MAC1, e.MAC2, e.Command, e.Inputs.MAC2, e.Inputs.MAC3, e.Inputs.TAC, e.Inputs.Cryptogram} {
			if mac != "" {
				macs = append(macs, mac)
			}
		}
		c.now.change[uint64(i)] = func(e *audit.Entry) {
			if e.MAC2 != "" {
				e.MAC2 = "00000000"
			}
			if e.MAC1 != "" {
				e.MAC1 = "00000000"
			}
		}
	}
	require.Greater(t, len(macs), 20)
	results := c.replayAll(ReplayRequest{})
	different := 0
	for _, r := range results {
		if r.Verdict == Different {
			different++
		}
	}
	assert.Equal(t, 4, different)
	text, err := json.Marshal(results)
	require.NoError(t, err)
	for _, mac := range macs {
		assert.NotContains(t, string(text), mac)
	}
}

// Who may replay what, and what the record says of it.
func TestWhoMayReplay(t *testing.T) {
	c := newChronicle(t, suite.TDES)
	c.load(7, true)
	for _, role := range policy.Roles() {
		if role == policy.Auditor {
			continue
		}
		_, err := c.Replay(context.Background(), c.as(role), ReplayRequest{})
		var denied *policy.Denied
		require.ErrorAs(t, err, &denied, role)
		all := c.entries(t)
		assert.Equal(t, "PERMISSION_DENIED", all[len(all)-1].Outcome)
		assert.Equal(t, role, all[len(all)-1].Role)
	}
	_, err := c.Replay(context.Background(), c.as(policy.Auditor), ReplayRequest{From: 3, To: 2})
	var field *purse.FieldError
	require.ErrorAs(t, err, &field)

	a, err := c.Replay(context.Background(), c.as(policy.Auditor), ReplayRequest{To: 2})
	require.NoError(t, err)
	all := c.entries(t)
	assert.EqualValues(t, len(all)-1, a.AuditIndex)
	last := all[a.AuditIndex]
	assert.Equal(t, audit.Event("Replay"), last.Event)
	assert.Equal(t, "auditor", last.Client)
	assert.Equal(t, "entries 0 up to 2: 1 equal, 0 different, 0 not replayable, 0 of keys that are gone, 1 of no MAC", last.Detail)

	b := newBench(t)
	b.current.Load().policy = c.current.Load().policy
	_, err = b.Replay(context.Background(), c.as(policy.Auditor), ReplayRequest{})
	require.Error(t, err)
}

// A key set that the auditor may not use is not compared; a key that is gone, or may not verify, is not either.
func TestKeysOfAReplay(t *testing.T) {
	c := newChronicle(t, suite.TDES)
	c.load(7, true)
	one := func() ReplayedEntry { return c.replayAll(ReplayRequest{From: 1, To: 2})[0] }
	require.Equal(t, Equal, one().Verdict)
	set := c.current.Load().sets["full"]
	for kind, versions := range set.versions {
		if kind.String() != "load" {
			continue
		}
		v := versions[1]
		for state, want := range map[custody.KeyState]string{
			custody.Active: "EQUAL ", custody.Deactivated: "EQUAL ", custody.Compromised: "EQUAL ", custody.Suspended: "NOT_REPLAYABLE KEY_SUSPENDED",
			custody.PreActive: "NOT_REPLAYABLE KEY_SUSPENDED", custody.Destroyed: "KEY_GONE full/load/1",
		} {
			v.State = state
			versions[1] = v
			r := one()
			assert.Equal(t, want, r.Verdict.String()+" "+r.Reason, state)
		}
		delete(versions, 1)
		assert.Equal(t, KeyGone, one().Verdict)
	}
	delete(c.current.Load().sets, "full")
	c.current.Load().sets["other"] = &keySet{KeySet: KeySet{Name: "other", Location: time.UTC}}
	rules, err := policy.New(policy.Rules{Clients: []policy.Client{{Name: "auditor", Identity: "spiffe://pursekeeper.test/auditor", Role: policy.Auditor, KeySets: []string{"other"}}}})
	require.NoError(t, err)
	c.current.Load().policy = rules
	assert.Equal(t, ReplayedEntry{Index: 1, Verdict: NotReplayable, Reason: "KEY_SET"}, one(), "and nothing of it is said")
}

// Of no event, outcome or batch a replay says anything about a key set that is not the auditor's.
func TestAReplayOfForeignKeySetsSaysNothing(t *testing.T) {
	c := newChronicle(t, suite.TDES)
	about := audit.Entry{Time: c.clock, KeySet: "foreign", Card: "3105228000009999", Transaction: "foreign/3105228000009999/EP/LOAD/0001/00000000", Outcome: "APPROVED"}
	var all []audit.Entry
	for _, event := range []audit.Event{"AuthorizeLoad", "GetTransaction", audit.CardLocked, audit.KeyExposure, "NextYear"} {
		e := about
		e.Event = event
		all = append(all, e)
	}
	about.Event = "VerifyTacs"
	about.Batch = &audit.Batch{Items: 1}
	denied, byKey := about, audit.Entry{Time: c.clock, Event: audit.KeyExposure, Outcome: "APPROVED", Key: &audit.Key{Set: "foreign", Kind: "load", Version: 1}}
	denied.Outcome = outcomeDenied
	all = append(all, about, denied, byKey)
	var first uint64
	require.NoError(t, c.store.Commit(t.Context(), store.Change{Decide: func(_ *store.Purse, at uint64) ([]audit.Entry, error) {
		first = at
		return all, nil
	}}))
	results := c.replayAll(ReplayRequest{From: first, To: first + uint64(len(all))})
	require.Len(t, results, len(all))
	for i, r := range results {
		assert.Equal(t, ReplayedEntry{Index: first + uint64(i), Verdict: NotReplayable, Reason: "KEY_SET"}, r)
	}
}

// A replay begins and ends at times too.
func TestAReplayOfATime(t *testing.T) {
	c := newChronicle(t, suite.TDES)
	began := c.clock
	for i := range 20 {
		c.clock = began.Add(time.Duration(i) * time.Hour)
		c.load(purse.Counter(7+i), true)
	}
	indexes := func(r ReplayRequest) (all []uint64) {
		for _, e := range c.replayAll(r) {
			if e.Event == "AuthorizeLoad" {
				all = append(all, e.Index)
			}
		}
		return all
	}
	assert.Len(t, indexes(ReplayRequest{}), 20)
	whole := indexes(ReplayRequest{To: 21})
	require.Len(t, whole, 20)
	assert.Equal(t, whole[5:8], indexes(ReplayRequest{Since: began.Add(5 * time.Hour), Until: began.Add(8 * time.Hour)}))
	assert.Equal(t, whole[6:8], indexes(ReplayRequest{From: whole[6], Since: began.Add(5 * time.Hour), Until: began.Add(8 * time.Hour)}))
	assert.Empty(t, indexes(ReplayRequest{Since: began.Add(100 * time.Hour)}))
}

// A replay leaves the token alone three times as long as it computed, and one runs at a time.
func TestAReplayRests(t *testing.T) {
	c := newChronicle(t, suite.TDES)
	c.load(7, true)
	rests := 0
	inside := make(chan struct{})
	leave := make(chan struct{})
	c.rest = func(_ context.Context, d time.Duration) error {
		assert.Positive(t, d)
		if rests++; rests == 1 {
			close(inside)
			<-leave
		}
		return nil
	}
	ended := make(chan error, 1)
	auditor := c.as(policy.Auditor)
	go func() {
		_, err := c.Replay(context.Background(), auditor, ReplayRequest{To: 2})
		ended <- err
	}()
	<-inside
	second, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.Replay(second, auditor, ReplayRequest{To: 2})
	require.ErrorIs(t, err, context.Canceled, "it waits for the first")
	c.load(8, true) // live traffic does not
	close(leave)
	require.NoError(t, <-ended)
	assert.Equal(t, 1, rests)
}
