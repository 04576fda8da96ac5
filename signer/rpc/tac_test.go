package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer"
)

const (
	verifyTac  = pursekeeperv1connect.SignerServiceVerifyTacProcedure
	verifyTacs = pursekeeperv1connect.SignerServiceVerifyTacsProcedure
)

// demoTACRequest is the TAC of the demonstration load.
func demoTACRequest() fields {
	return fields{
		"keySet": "demo", "cardSerial": demoCard, "keyVersion": 1, "type": "02", "amountFen": 100, "terminalId": "112233445566",
		"counter": "0007", "balanceFen": 1000, "date": "20240131", "time": "235959", "tac": demoTAC,
	}
}

// purchaseTAC is a well-formed request of a purchase, whose TAC is wrong.
func purchaseTAC() fields {
	return demoTACRequest().with("type", "06").with("counter", nil).with("balanceFen", nil).with("terminalSerial", "00000001")
}

// overdraftTAC is a well-formed request of a new overdraft limit, whose TAC is wrong.
func overdraftTAC() fields {
	return demoTACRequest().with("type", "07").with("amountFen", nil).with("oldLimitFen", 0).with("newLimitFen", 500)
}

// tacRefusals are malformed TACs: what one field of a good one was changed to, and what is said of it.
func tacRefusals() (rows []refusal) {
	for _, c := range []struct {
		name    string
		good    fields
		field   string
		value   any
		message string
	}{
		{"unload", demoTACRequest(), "type", "03", "type: 03 is an unload, which has no TAC: its MAC3 proves it"},
		{"type missing", demoTACRequest(), "type", nil, "type: 0 bytes, expected 1"},
		{"type 00", demoTACRequest(), "type", "00", "type: unknown transaction type 00"},
		{"type 08", demoTACRequest(), "type", "08", "type: unknown transaction type 08"},
		{"type of one digit", demoTACRequest(), "type", "2", "type: 1 hex digits, expected an even number"},
		{"type in words", demoTACRequest(), "type", "load", "type: character 1: 'l' is not a hex digit"},
		{"no key version", demoTACRequest(), "keyVersion", nil, "keyVersion: is 0, expected 1 to 255"},
		{"key version 256", demoTACRequest(), "keyVersion", 256, "keyVersion: is 256, expected 1 to 255"},
		{"key version negative", demoTACRequest(), "keyVersion", -1, "keyVersion: not a value of type uint32"},
		{"no card", demoTACRequest(), "cardSerial", nil, "cardSerial: 0 hex digits, expected 1 to 20"},
		{"card not hex", demoTACRequest(), "cardSerial", "310522800000111G", "cardSerial: character 16: 'G' is not a hex digit"},
		{"foreign issuer", demoTACRequest(), "issuerId", "2000200020002000", "issuerId: is not the issuer factor of this key set"},
		{"load of 0", demoTACRequest(), "amountFen", nil, "amountFen: missing: type 02 EP load needs it"},
		{"amount in five bytes", demoTACRequest(), "amountFen", 1 << 32, "amountFen: 4294967296 fen do not fit in four bytes"},
		{"amount of a limit", overdraftTAC(), "amountFen", 1, "amountFen: has no place in type 07 ED overdraft limit"},
		{"no terminal", demoTACRequest(), "terminalId", nil, "terminalId: 0 bytes, expected 6"},
		{"terminal of 5 bytes", purchaseTAC(), "terminalId", "1122334455", "terminalId: 5 bytes, expected 6"},
		{"load with a TSN", demoTACRequest(), "terminalSerial", "00000001", "terminalSerial: has no place in type 02 EP load"},
		{"limit with a TSN", overdraftTAC(), "terminalSerial", "00000001", "terminalSerial: has no place in type 07"},
		{"purchase without its TSN", purchaseTAC(), "terminalSerial", nil, "terminalSerial: missing: type 06 EP purchase needs it"},
		{"withdrawal without its TSN", purchaseTAC().with("type", "04"), "terminalSerial", nil, "terminalSerial: missing: type 04 ED cash withdrawal needs it"},
		{"compound without its TSN", purchaseTAC().with("type", "09"), "terminalSerial", nil, "terminalSerial: missing: type 09 compound purchase needs it"},
		{"TSN of 3 bytes", purchaseTAC(), "terminalSerial", "000001", "terminalSerial: 3 bytes, expected 4"},
		{"TSN of 5 bytes", purchaseTAC(), "terminalSerial", "0100000000", "terminalSerial: 5 bytes, expected 4"},
		{"purchase with a counter", purchaseTAC(), "counter", "0007", "counter: has no place in type 06 EP purchase"},
		{"purchase with a balance", purchaseTAC(), "balanceFen", 0, "balanceFen: has no place in type 06 EP purchase"},
		{"load without its counter", demoTACRequest(), "counter", nil, "counter: missing: type 02 EP load needs it"},
		{"limit without its counter", overdraftTAC(), "counter", nil, "counter: missing: type 07"},
		{"counter of one byte", demoTACRequest(), "counter", "07", "counter: 1 bytes, expected 2"},
		{"counter of three bytes", demoTACRequest(), "counter", "000007", "counter: 3 bytes, expected 2"},
		{"counter at its end", demoTACRequest(), "counter", "FFFF", "counter: is FFFF, where the card's counter ends"},
		{"load without its balance", demoTACRequest(), "balanceFen", nil, "balanceFen: missing: type 02 EP load needs it"},
		{"balance in five bytes", demoTACRequest(), "balanceFen", 1 << 32, "balanceFen: 4294967296 fen do not fit in four bytes"},
		{"new balance in five bytes", demoTACRequest(), "balanceFen", 1<<32 - 100, "amountFen: amount 100 and balance 4294967196 are together over four bytes"},
		{"load with an old limit", demoTACRequest(), "oldLimitFen", 0, "oldLimitFen: has no place in type 02 EP load"},
		{"purchase with a new limit", purchaseTAC(), "newLimitFen", 1, "newLimitFen: has no place in type 06 EP purchase"},
		{"limit without the old", overdraftTAC(), "oldLimitFen", nil, "oldLimitFen: missing: type 07 ED overdraft limit needs it"},
		{"limit without the new", overdraftTAC(), "newLimitFen", nil, "newLimitFen: missing: type 07 ED overdraft limit needs it"},
		{"old limit in four bytes", overdraftTAC(), "oldLimitFen", 1 << 24, "oldLimitFen: 16777216 fen do not fit in three bytes"},
		{"new limit in four bytes", overdraftTAC(), "newLimitFen", 1 << 24, "newLimitFen: 16777216 fen do not fit in three bytes"},
		{"limit lowered below what is owed", overdraftTAC().with("balanceFen", 0), "oldLimitFen", 501, "newLimitFen: balance 0, new limit 500 and old limit 501"},
		{"no date", demoTACRequest(), "date", nil, "date: 0 bytes, expected 4"},
		{"no such day", purchaseTAC(), "date", "20230229", "date: 20230229 is not a calendar date"},
		{"no time", demoTACRequest(), "time", nil, "time: 0 bytes, expected 3"},
		{"no such second", overdraftTAC(), "time", "235960", "time: 235960 is not a time of day"},
		{"no TAC", demoTACRequest(), "tac", nil, "tac: 0 bytes, expected 4"},
		{"TAC of 3 bytes", demoTACRequest(), "tac", "5D5364", "tac: 3 bytes, expected 4"},
		{"TAC not hex", demoTACRequest(), "tac", "5D5364F?", "tac: character 8: '?' is not a hex digit"},
	} {
		rows = append(rows, refusal{c.name, verifyTac, c.good.with(c.field, c.value), invalid, c.message})
	}
	return append(rows,
		refusal{"unknown field", verifyTac, demoTACRequest().with("tacs", "1"), invalid, "tacs: unknown field"},
		refusal{"unknown key set", verifyTac, demoTACRequest().with("keySet", "x"), "not_found", "keySet: is not known"},
		refusal{"no key set", verifyTac, demoTACRequest().with("keySet", nil), "not_found", "keySet: is not known"},
		refusal{"no items", verifyTacs, fields{}, invalid, "items: 0, expected 1 to 10000"},
		refusal{"empty items", verifyTacs, fields{"items": []any{}}, invalid, "items: 0, expected 1 to 10000"},
		refusal{"10,001 items", verifyTacs, fields{"items": make([]fields, signer.MaxTACs+1)}, invalid, "items: "},
		refusal{"item no object", verifyTacs, fields{"items": []any{"x"}}, invalid, "malformed JSON"},
	)
}

// refuseAll asks that each malformed request is refused with its code and names its field, on both versions of HTTP, and leaves
// nothing behind.
func refuseAll(t *testing.T, w *world, rows []refusal) {
	t.Helper()
	before := len(w.entries())
	callers := []caller{w.dial(w.tlsAs("platform"), false), w.dial(w.tlsAs("platform"), true)}
	for i, row := range rows {
		r := callers[i%2].post(row.method, row.body)
		assert.Equal(t, row.code, r.code(), "%s: %v", row.name, r.body)
		assert.Contains(t, r.message(), row.message, row.name)
		quiet(t, r.message(), row.name)
		wantStatus := map[string]int{invalid: http.StatusBadRequest, "not_found": http.StatusNotFound}[row.code]
		assert.Equal(t, wantStatus, r.status, row.name)
	}
	assert.Empty(t, w.attempts())
	assert.Len(t, w.entries(), before)
}

func TestMalformedTACs(t *testing.T) {
	w := newWorld(t)
	rows := tacRefusals()
	for i := range rows {
		if items, ok := rows[i].body["items"].([]fields); ok {
			for j := range items {
				items[j] = fields{}
			}
		}
	}
	refuseAll(t, w, rows)
	right := w.as("platform").post(verifyTac, demoTACRequest().with("ref", "mine"))
	assert.Equal(t, "OUTCOME_VERIFIED", right.body["outcome"], "%v", right.body)
	assert.Equal(t, "mine", right.body["ref"])
	// A TSN has no end for a TAC: the last one is as good as the first.
	last := w.as("platform").post(verifyTac, purchaseTAC().with("terminalSerial", "FFFFFFFF"))
	assert.Equal(t, "OUTCOME_TAC_MISMATCH", last.body["outcome"], "%v", last.body)
}

// terminal is a terminal's secure module with the purchase master in memory: it makes MAC1 of offline transactions.
type terminal struct {
	t    *testing.T
	f    flavour
	card reader
	key  keyderive.Master
}

func newTerminal(t *testing.T, f flavour, card reader) terminal {
	t.Helper()
	master := softcard.TestOnlyMasters()[purse.KeyPurchase]
	key, err := keyderive.InMemory(f.alg, secret.Copy(master[:]))
	require.NoError(t, err)
	return terminal{t, f, card, keyderive.NewMaster(key, keyderive.RootFirst(keyderive.Factor(unhex(t, testIssuer))))}
}

// buy is one offline transaction, up to the card's TAC.
func (m terminal) buy(serial string, tti purse.TTI, tsn purse.TSN, amount purse.Fen) (tac string) {
	t := m.t
	t.Helper()
	number, day, clock := purse.Terminal{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}, purse.Date{0x20, 0x24, 0x01, 0x31}, purse.Time{0x23, 0x59, 0x59}
	apdu, err := purse.InitializeForPurchase(m.f.profile, tti, amount, number)
	require.NoError(t, err)
	init, err := purse.ParsePurchaseInitHex(m.card.tells(apdu))
	require.NoError(t, err)
	buy, err := purse.NewPurchase(init, tti, tsn, amount, number)
	require.NoError(t, err)
	if tti == purse.TTICompound {
		cache, err := purse.UpdateCAPPCache(0x01, 0x17<<3|4, []byte("gate 042"))
		require.NoError(t, err)
		m.card.tells(cache)
	}
	factor, err := purse.ParseCardSerial(serial)
	require.NoError(t, err)
	var mac1 purse.MAC
	require.NoError(t, m.key.WithCard(context.Background(), factor, func(c keyderive.Card) error {
		session, err := c.Session(buy.SessionInput())
		if err == nil {
			mac1, err = session.MAC(buy.MAC1Data(day, clock))
		}
		return err
	}))
	answer := m.card.tells(buy.Debit(m.f.profile, day, clock, mac1))
	return answer[:8]
}

// withRecord gives a card the file that a compound purchase writes.
func withRecord(o *softcard.Options) { o.Records = map[byte][][]byte{0x17: {make([]byte, 8)}} }

// tacsOf has one card make a TAC of every type, and returns the requests that verify them.
func (f tokenFlavour) tacsOf(t *testing.T, platform caller, serial string) (requests []fields) {
	t.Helper()
	card := f.personalise(t, serial, withRecord)
	base := fields{
		"keySet": f.keySet(), "cardSerial": serial, "keyVersion": 1, "terminalId": "112233445566", "date": "20240131", "time": "235959",
	}
	module := newTerminal(t, f.flavour, card)
	for i, tti := range []purse.TTI{purse.TTICashWithdrawal, purse.TTIPurchaseED, purse.TTIPurchaseEP, purse.TTICompound} {
		tsn := purse.TSN(0xFFFFFFFF - i)
		requests = append(requests, base.with("type", fmt.Sprintf("%02X", uint8(tti))).with("amountFen", 100+i).
			with("terminalSerial", tsn.String()).with("tac", module.buy(serial, tti, tsn, purse.Fen(100+i))))
	}
	for _, o := range f.online(t) {
		if o.name == "unload" {
			continue // which has none
		}
		o.request["keySet"], o.request["cardSerial"] = f.keySet(), serial
		answer := card.tells(o.initialize)
		approved := o.ask(t, platform, answer)
		require.Equal(t, "OUTCOME_APPROVED", approved.body["outcome"], "%v", approved.body)
		balance, err := purse.ParseFen("balance", answer[:8])
		require.NoError(t, err)
		r := base.with("type", fmt.Sprintf("%02X", uint8(o.prove))).with("counter", answer[8:12]).with("balanceFen", balance).
			with("tac", tell(t, card.card, approved.text("command")))
		if o.name == "overdraft" {
			requests = append(requests, r.with("oldLimitFen", 500).with("newLimitFen", 700))
			continue
		}
		requests = append(requests, r.with("amountFen", 100))
	}
	return requests
}

// Every type of TAC that a card makes, with every profile, in both suites, at every boundary that SoftHSM has, over mTLS: verified
// alone and in a batch, and refused for any bit, and any field, that is not the card's.
func TestEveryTAC(t *testing.T) {
	w := newWorld(t, withTokens(t))
	platform := w.as("platform")
	for i, f := range tokenFlavours(t) {
		t.Run(f.keySet(), func(t *testing.T) {
			requests := f.tacsOf(t, platform, fmt.Sprintf("31052280000%05d", i))
			require.Len(t, requests, 6)
			var items []fields
			for n, r := range requests {
				right := platform.post(verifyTac, r)
				require.Equal(t, "OUTCOME_VERIFIED", right.body["outcome"], "%v: %v", r, right.body)
				assert.Equal(t, "BOUNDARY_"+f.of(keyderive.KindTAC).String(), right.body["boundary"])
				forged := r.with("tac", flipped(t, r["tac"].(string), (7*n+i)%32))
				wrong := platform.post(verifyTac, forged)
				assert.Equal(t, "OUTCOME_TAC_MISMATCH", wrong.body["outcome"], "%v", wrong.body)
				for field, other := range changedParts(r) {
					assert.Equal(t, "OUTCOME_TAC_MISMATCH", platform.post(verifyTac, r.with(field, other)).body["outcome"], "%v %s", r["type"], field)
				}
				items = append(items, r, forged)
			}
			batch := platform.post(verifyTacs, fields{"items": items})
			assert.EqualValues(t, 6, batch.body["verified"], "%v", batch.body)
			assert.EqualValues(t, 6, batch.body["mismatched"])
		})
	}
}

// changedParts are other values of what a TAC covers.
func changedParts(r fields) fields {
	other := fields{"terminalId": "112233445567", "date": "20240201", "time": "235958", "cardSerial": "1"}
	of := fields{"amountFen": 99, "terminalSerial": "00000000", "counter": "0000", "balanceFen": 9_000, "newLimitFen": 701}
	for field, value := range of {
		if r[field] != nil {
			other[field] = value
		}
	}
	return other
}

// The record of a TAC says all that it was computed from.
func TestRecordOfATAC(t *testing.T) {
	w := newWorld(t)
	platform := w.as("platform")
	platform.post(verifyTac, demoTACRequest().with("tac", strings.ToLower(demoTAC)))
	platform.post(verifyTac, purchaseTAC())
	platform.post(verifyTac, overdraftTAC())
	platform.post(verifyTac, demoTACRequest().with("keyVersion", 9))
	entries := w.entries()[1:]
	require.Len(t, entries, 4)
	load := entries[0]
	assert.Equal(t, "VerifyTac VERIFIED demo "+demoCard+" EP", fmt.Sprint(load.Event, " ", load.Outcome, " ", load.KeySet, " ", load.Card, " ", load.Purse))
	assert.Equal(t, "tac", load.Key.Kind)
	assert.Equal(t, "PROCESS", load.Boundary)
	for i, want := range []string{
		`{"amountFen":100,"terminal":"112233445566","date":"20240131","time":"235959","tac":"5D5364F0","keyVersion":1,"type":"02","counter":"0007","balanceFen":1000}`,
		`{"amountFen":100,"terminal":"112233445566","date":"20240131","time":"235959","tac":"5D5364F0","keyVersion":1,"type":"06","terminalSerial":"00000001"}`,
		`{"terminal":"112233445566","date":"20240131","time":"235959","tac":"5D5364F0","keyVersion":1,"type":"07","counter":"0007","balanceFen":1000,"newLimitFen":500}`,
	} {
		assert.JSONEq(t, want, inputsOf(t, entries[i]))
		assert.Equal(t, []string{"VERIFIED", "TAC_MISMATCH", "TAC_MISMATCH"}[i], entries[i].Outcome)
	}
	unknown := entries[3]
	assert.Equal(t, "KEY_NOT_ACTIVE", unknown.Outcome)
	assert.Equal(t, "no TAC key of this epoch may verify", unknown.Detail)
	assert.Equal(t, 9, unknown.Key.Version)
	assert.Empty(t, unknown.Key.KCV)
}

// A TAC key verifies while it is active, deactivated or compromised, and the last is flagged; the set maps a KVER to its epoch.
func TestStatesOfATACKey(t *testing.T) {
	for state, want := range map[custody.KeyState][2]string{
		custody.PreActive: {"OUTCOME_KEY_NOT_ACTIVE", "no TAC key of this epoch may verify"}, custody.Active: {"OUTCOME_VERIFIED", ""},
		custody.Suspended:   {"OUTCOME_KEY_NOT_ACTIVE", "no TAC key of this epoch may verify"},
		custody.Deactivated: {"OUTCOME_VERIFIED", ""}, custody.Compromised: {"OUTCOME_VERIFIED", "verified with a compromised key"},
		custody.Destroyed: {"OUTCOME_KEY_NOT_ACTIVE", "no TAC key of this epoch may verify"},
	} {
		w := newWorld(t, func(s *setup) {
			s.keySets[0].TACVersion = map[int]int{7: 1}
			for i := range s.keySets[0].Versions {
				s.keySets[0].Versions[i].State = state
			}
		})
		platform := w.as("platform")
		for _, version := range []int{1, 7} {
			alone := platform.post(verifyTac, demoTACRequest().with("keyVersion", version))
			batch := platform.post(verifyTacs, fields{"items": []fields{demoTACRequest().with("keyVersion", version)}})
			for _, r := range []map[string]any{alone.body, batch.body["results"].([]any)[0].(map[string]any)} {
				assert.Equal(t, want[0], r["outcome"], "%v: %v", state, r)
				detail, _ := r["detail"].(string)
				assert.Equal(t, want[1], detail, "%v", state)
				assert.Equal(t, 1.0, r["key"].(map[string]any)["version"])
				assert.Len(t, r["key"].(map[string]any)["kcv"], 6)
			}
		}
	}
}

// inputsOf is the inputs of an entry as the record has them.
func inputsOf(t *testing.T, e audit.Entry) string {
	t.Helper()
	line, err := e.Encode()
	require.NoError(t, err)
	var entry struct{ Inputs json.RawMessage }
	require.NoError(t, json.Unmarshal(line, &entry))
	return string(entry.Inputs)
}
