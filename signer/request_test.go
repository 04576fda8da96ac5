package signer

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

func TestAMalformedRequestNamesItsFieldAndIsNoTransaction(t *testing.T) {
	tests := []struct {
		name, field string
		change      func(*LoadRequest)
	}{
		{"serial with a letter", "cardSerial", func(r *LoadRequest) { r.CardSerial = "31052280000011G7" }},
		{"no serial", "cardSerial", func(r *LoadRequest) { r.CardSerial = "" }},
		{"serial too long", "cardSerial", func(r *LoadRequest) { r.CardSerial = "000000000000000000001" }},
		{"issuer of another key set", "issuerId", func(r *LoadRequest) { r.IssuerID = "2000200020002000" }},
		{"short issuer", "issuerId", func(r *LoadRequest) { r.IssuerID = "10" }},
		{"no purse", "purse", func(r *LoadRequest) { r.Purse = 0 }},
		{"a third purse", "purse", func(r *LoadRequest) { r.Purse = 3 }},
		{"amount 0", "amountFen", func(r *LoadRequest) { r.AmountFen = 0 }},
		{"amount of five bytes", "amountFen", func(r *LoadRequest) { r.AmountFen = 1 << 32 }},
		{"balance and amount over four bytes", "amountFen", func(r *LoadRequest) { r.AmountFen = 1<<32 - 1000 }},
		{"short terminal", "terminalId", func(r *LoadRequest) { r.TerminalID = "1122334455" }},
		{"no terminal", "terminalId", func(r *LoadRequest) { r.TerminalID = "" }},
		{"short answer", "initializeResponse", func(r *LoadRequest) { r.InitializeResponse = r.InitializeResponse[2:] }},
		{"answer with its status word", "initializeResponse", func(r *LoadRequest) { r.InitializeResponse += "9000" }},
		{"no answer", "initializeResponse", func(r *LoadRequest) { r.InitializeResponse = "" }},
		{"date alone", "time", func(r *LoadRequest) { r.Time = "" }},
		{"time alone", "date", func(r *LoadRequest) { r.Date = "" }},
		{"no such day", "date", func(r *LoadRequest) { r.Date = "20240230" }},
		{"no such hour", "time", func(r *LoadRequest) { r.Time = "240000" }},
	}
	w := newWallet(t)
	answer := w.offer()
	before := len(w.entries(t))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := w.request(answer)
			test.change(&r)
			got, err := w.AuthorizeLoad(context.Background(), w.caller, r)
			var field *purse.FieldError
			require.ErrorAs(t, err, &field)
			require.Equal(t, test.field, field.Field)
			require.Empty(t, got)
		})
	}
	listed, _, err := w.Transactions(context.Background(), w.caller, ListRequest{KeySet: "demo"})
	require.NoError(t, err)
	require.Empty(t, listed)
	require.Len(t, w.entries(t), before)
}

func TestAMalformedConfirmationNamesItsField(t *testing.T) {
	w := newWallet(t)
	a, tac := w.load()
	for id, field := range map[string]string{
		"":                                       "transactionId",
		a.TransactionID[:len(a.TransactionID)-1]: "transactionId",
		"demo/3105228000001117/XX/LOAD/0007/9E3779B1":      "transactionId",
		"demo/3105228000001117/EP/LOAD/7/9E3779B1":         "transactionId",
		"DEMO/3105228000001117/EP/LOAD/0007/9E3779B1":      "transactionId",
		"demo/3105228000001117/EP/LOAD/0007/9E3779B1/more": "transactionId",
		a.TransactionID: "tac",
	} {
		value := tac
		if field == "tac" {
			value = tac[2:]
		}
		_, err := w.ConfirmLoad(context.Background(), w.caller, id, value)
		var wrong *purse.FieldError
		require.ErrorAs(t, err, &wrong, id)
		require.Equal(t, field, wrong.Field, id)
	}
	for _, id := range []string{
		"demo/3105228000001117/EP/LOAD/0007/00000000", "demo/3105228000001117/EP/UNLOAD/0007/9E3779B1",
		"demo/3105228000001117/ED/LOAD/0007/9E3779B1",
	} {
		_, err := w.ConfirmLoad(context.Background(), w.caller, id, tac)
		var missing *NotFoundError
		require.ErrorAs(t, err, &missing, id)
	}
	require.Equal(t, "OPEN", w.state(a.TransactionID))
}

// However a serial number is written, the card is one, and so is its ledger.
func TestASerialNumberHasManyFormsAndOneCard(t *testing.T) {
	const serial = "31052280000011AB"
	w := newBench(t).wallet(t, serial, softcard.Account{Balance: 1000, Online: 7})
	answer := w.offer()
	first := w.approved(answer)
	require.Equal(t, "demo/31052280000011AB/EP/LOAD/0007/9E3779B1", first.TransactionID)
	for _, form := range []string{"31052280000011ab", "3105 2280 0000 11AB", "000031052280000011AB", "9999" + serial} {
		same := w.authorise(answer, func(r *LoadRequest) { r.CardSerial = form })
		require.Equal(t, first, same, form)
	}
	short := newBench(t).wallet(t, "1117", softcard.Account{Balance: 1000, Online: 7})
	require.Contains(t, short.approved(short.offer()).TransactionID, "demo/0000000000001117/")
}

func TestAnAnswerIsReadInEitherCaseAndWithSpaces(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	first := w.approved(answer)
	require.Equal(t, first, w.authorise(answer[:8]+" "+answer[8:12]+"  "+answer[12:]))
	require.Equal(t, first, w.authorise(answer, func(r *LoadRequest) { r.TerminalID = "11 22 33 44 55 66" }))
}

func TestTheALGByteIsUnderNoMACAndNotCompared(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	first := w.approved(answer)
	require.Equal(t, first, w.authorise(answer[:14]+"77"+answer[16:]))
}

func TestOnlyAnActiveKeySigns(t *testing.T) {
	states := map[custody.KeyState]struct{ signs, verifies bool }{
		custody.PreActive: {false, false}, custody.Active: {true, true}, custody.Suspended: {false, false},
		custody.Deactivated: {false, true}, custody.Compromised: {false, true}, custody.Destroyed: {false, false},
	}
	for state, may := range states {
		t.Run(state.String(), func(t *testing.T) {
			w := newWallet(t)
			granted := w.offer()
			a := w.approved(granted)
			tac := w.credit(a)
			require.NoError(t, w.store.Close())
			w.open(t, func(c *Config) { c.KeySets[0] = inState(c.KeySets[0], state) })

			for _, answer := range []string{granted, w.offer()} {
				got := w.authorise(answer)
				require.Equal(t, may.signs, got.Outcome != ledger.KeyNotActive, "%s", got.Outcome)
				if !may.signs {
					require.Empty(t, got.MAC2, "not even a recorded one")
					require.Equal(t, "KEY_NOT_ACTIVE", w.entries(t)[got.AuditIndex].Outcome)
				}
			}
			want := ledger.KeyNotActive
			if may.verifies {
				want = ledger.Verified
			}
			require.Equal(t, want, w.confirm(a.TransactionID, tac).Outcome)
		})
	}
}

func inState(set KeySet, state custody.KeyState) KeySet {
	for i := range set.Versions {
		set.Versions[i].State = state
	}
	return set
}

func TestAnUnknownKVERIsNotActive(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	got := w.authorise(answer[:12] + "02" + answer[14:])
	require.Equal(t, ledger.KeyNotActive, got.Outcome)
	require.Empty(t, got.MAC2)
}

func TestTheTACKeyIsThatOfTheLoadsEpoch(t *testing.T) {
	w := newWallet(t, func(c *Config) {
		set := &c.KeySets[0]
		set.TACVersion = map[int]int{1: 9}
		for i := range set.Versions {
			if set.Versions[i].Kind == keyderive.KindTAC {
				set.Versions[i].Number = 9
			}
		}
	})
	a, tac := w.load()
	c := w.confirm(a.TransactionID, tac)
	require.Equal(t, ledger.Verified, c.Outcome)
	require.Equal(t, 9, c.Key.Version)
}

func TestNothingIsComputedWithoutPermission(t *testing.T) {
	w := newWallet(t)
	answer := w.offer()
	a := w.approved(answer)
	s := w.begin()
	officer := w.officer(t)
	ctx := context.Background()
	for name, call := range map[string]func(policy.Caller) error{
		"AuthorizeLoad": func(c policy.Caller) error { _, err := w.AuthorizeLoad(ctx, c, w.request(answer)); return err },
		"ConfirmLoad":   func(c policy.Caller) error { _, err := w.ConfirmLoad(ctx, c, a.TransactionID, "00000000"); return err },
		"BeginSettlement": func(c policy.Caller) error {
			_, err := w.BeginSettlement(ctx, c, "demo", w.serial, "", purse.EP)
			return err
		},
		"SettleLoad": func(c policy.Caller) error { _, err := w.SettleLoad(ctx, c, s.ID, answer); return err },
	} {
		for _, caller := range []policy.Caller{officer, {}} {
			var denied *policy.Denied
			require.ErrorAs(t, call(caller), &denied, "%s by %q", name, caller.Name())
			all := w.entries(t)
			require.Equal(t, name+" PERMISSION_DENIED "+caller.Name(),
				string(all[len(all)-1].Event)+" "+all[len(all)-1].Outcome+" "+all[len(all)-1].Client)
		}
	}
	require.Equal(t, "OPEN", w.state(a.TransactionID))
}
