package rpc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// refusal is a malformed request: its code, and what its message says, the field first.
type refusal struct {
	name    string
	method  string
	body    fields
	code    string
	message string
}

const invalid = "invalid_argument"

// changed are malformed loads: one field of the good one is changed.
func changed() (rows []refusal) {
	for _, c := range []struct {
		name, field string
		value       any
		message     string
	}{
		{"serial missing", "cardSerial", nil, "cardSerial: 0 hex digits, expected 1 to 20"},
		{"serial too long", "cardSerial", strings.Repeat("0", 21), "cardSerial: 21 hex digits, expected 1 to 20"},
		{"serial not hex", "cardSerial", "31O5", `cardSerial: character 3: 'O' is not a hex digit`},
		{"issuer of a set with fixed factors", "issuerId", "2000200020002000", "issuerId: is not the issuer factor of this key set"},
		{"issuer too short", "issuerId", "1000", "issuerId: 2 bytes, expected 8"},
		{"purse missing", "purse", nil, "purse: missing"},
		{"purse unspecified", "purse", "PURSE_UNSPECIFIED", "purse: missing"},
		{"purse name", "purse", "EP", "purse: not a value of type enum"},
		{"purse number", "purse", 3, "purse: 3 is not a number of Purse"},
		{"purse negative", "purse", -1, "purse: -1 is not a number of Purse"},
		{"amount missing", "amountFen", nil, "amountFen: is 0"},
		{"amount 0", "amountFen", 0, "amountFen: is 0, expected 1 to 4294967295"},
		{"amount in five bytes", "amountFen", 1 << 32, "amountFen: 4294967296 fen do not fit in four bytes"},
		{"amount in five bytes as text", "amountFen", "4294967296", "amountFen: 4294967296 fen do not fit in four bytes"},
		{"amount in nine bytes", "amountFen", "18446744073709551616", "amountFen: not a value of type uint64"},
		{"amount negative", "amountFen", -1, "amountFen: not a value of type uint64"},
		{"amount fraction", "amountFen", 0.5, "amountFen: not a value of type uint64"},
		{"amount text", "amountFen", "1OO", "amountFen: not a value of type uint64"},
		{"amount truth", "amountFen", true, "amountFen: not a value of type uint64"},
		{"terminal missing", "terminalId", nil, "terminalId: 0 bytes, expected 6"},
		{"terminal of 11 digits", "terminalId", "11223344556", "terminalId: 11 hex digits, expected an even number"},
		{"terminal of 13 digits", "terminalId", "1122334455667", "terminalId: 13 hex digits, expected an even number"},
		{"terminal of 14 digits", "terminalId", "11223344556677", "terminalId: 7 bytes, expected 6"},
		{"terminal number", "terminalId", 112233445566, "terminalId: not a value of type string"},
		{"answer missing", "initializeResponse", nil, "initializeResponse: 0 bytes, expected 16"},
		{"answer of 15 bytes", "initializeResponse", demoAnswer + "7E1722", "initializeResponse: 15 bytes, expected 16"},
		{"answer of INITIALIZE FOR UPDATE", "initializeResponse", demoAnswer + demoMAC1 + "000000", "initializeResponse: 19 bytes, expected 16"},
		{"answer with status word", "initializeResponse", demoAnswer + demoMAC1 + "9000", "initializeResponse: 18 bytes, expected 16"},
		{"answer odd", "initializeResponse", demoAnswer + "7E1722D", "initializeResponse: 31 hex digits, expected an even number"},
		{"answer not hex", "initializeResponse", demoAnswer + "7E1722DG", `initializeResponse: character 37: 'G' is not a hex digit`},
		{"answer with 0x", "initializeResponse", "0x" + demoAnswer + demoMAC1, `initializeResponse: character 2: 'x' is not a hex digit`},
		{"answer with a tab", "initializeResponse", "\t" + demoAnswer + demoMAC1, `initializeResponse: character 1: '\t' is not a hex digit`},
		{"answer not Latin", "initializeResponse", "０" + demoAnswer + demoMAC1, "initializeResponse: character 1: "},
		{"balance overflows", "initializeResponse", "FFFFFFFF 0007 01 00 A1B2C3D4 7E1722D0", "amountFen: "},
		{"date not in the calendar", "date", "20230229", "date: "},
		{"date in month 13", "date", "20241301", "date: "},
		{"date of year 0", "date", "00000101", "date: "},
		{"date too short", "date", "2024013", "date: "},
		{"date in hex", "date", "2024013A", "date: "},
		{"time not of the day", "time", "240000", "time: "},
		{"leap second", "time", "235960", "time: "},
		{"time only", "date", nil, "date: missing: date and time come together or not at all"},
		{"date only", "time", nil, "time: missing: date and time come together or not at all"},
		{"unknown field", "tiem", "235959", "tiem: unknown field"},
		{"another spelling", "KeySet", "demo", "KeySet: unknown field"},
		{"duplicate field", "key_set", "demo", "duplicate field"},
		{"field of another method", "tac", demoTAC, "tac: unknown field"},
	} {
		rows = append(rows, refusal{c.name, authorizeLoad, demoLoad().with(c.field, c.value), invalid, c.message})
	}
	return rows
}

func refusals() []refusal {
	id := func(id string) fields { return fields{"transactionId": id, "tac": demoTAC} }
	list := func(name string, value any) fields { return fields{"keySet": "demo"}.with(name, value) }
	settle := func(id string) fields { return fields{"settlementId": id, "initializeResponse": demoAnswer + demoMAC1} }
	const form = "expected SET/CARD/PURSE/OPERATION/COUNTER/RANDOM"
	return append(changed(), []refusal{
		{"unknown key set", authorizeLoad, demoLoad().with("keySet", "Demo"), "not_found", "keySet: is not known"},
		{"no key set", authorizeLoad, demoLoad().with("keySet", nil), "not_found", "keySet: is not known"},
		{"ALG not listed", authorizeLoad, demoLoad().with("keySet", "listed"), invalid, "initializeResponse: ALG is not one that the card profile lists"},
		{"id empty", confirmLoad, id(""), invalid, "transactionId: the id: 1 parts; " + form},
		{"id of five parts", confirmLoad, id("demo/" + demoCard + "/EP/LOAD/0007"), invalid, "transactionId: the id: 5 parts; " + form},
		{"id of seven parts", confirmLoad, id(demoID + "/"), invalid, "transactionId: the id: 7 parts; " + form},
		{"id of another set", confirmLoad, id(strings.Replace(demoID, "demo", "demo-sm4", 1)), "not_found", "transactionId: is not known"},
		{"id of an unknown set", confirmLoad, id(strings.Replace(demoID, "demo", "demo9", 1)), "not_found", "keySet: is not known"},
		{"id of no set", confirmLoad, id(strings.Replace(demoID, "demo", "../x", 1)), invalid, "transactionId: "},
		{"id of a bad set", confirmLoad, id(strings.Replace(demoID, "demo", "DEMO", 1)), invalid, "transactionId: key set: "},
		{"id of another card", confirmLoad, id("demo/3105228000001118/EP/LOAD/0007/A1B2C3D4"), "not_found", "transactionId: is not known"},
		{"id of no card", confirmLoad, id("demo/x/EP/LOAD/0007/A1B2C3D4"), invalid, "transactionId: card: "},
		{"id of another purse", confirmLoad, id("demo/" + demoCard + "/ED/LOAD/0007/A1B2C3D4"), "not_found", "transactionId: is not known"},
		{"id of no purse", confirmLoad, id("demo/" + demoCard + "/ep/LOAD/0007/A1B2C3D4"), invalid, "transactionId: purse: "},
		{"id of another operation", confirmLoad, id("demo/" + demoCard + "/EP/UNLOAD/0007/A1B2C3D4"), "not_found", "transactionId: is not known"},
		{"id of no operation", confirmLoad, id("demo/" + demoCard + "/EP/load/0007/A1B2C3D4"), invalid, "transactionId: operation: "},
		{"id with a short counter", confirmLoad, id("demo/" + demoCard + "/EP/LOAD/7/A1B2C3D4"), invalid, "transactionId: counter: not four hex digits"},
		{"id with a signed counter", confirmLoad, id("demo/" + demoCard + "/EP/LOAD/+007/A1B2C3D4"), invalid, "transactionId: counter: not four hex digits"},
		{"id with a short random", confirmLoad, id("demo/" + demoCard + "/EP/LOAD/0007/A1B2C3"), invalid, "transactionId: random: not eight hex digits"},
		{"id with a bad random", confirmLoad, id("demo/" + demoCard + "/EP/LOAD/0007/A1B2C3DG"), invalid, "transactionId: random: not eight hex digits"},
		{"tac missing", confirmLoad, fields{"transactionId": demoID}, invalid, "tac: 0 bytes, expected 4"},
		{"tac too long", confirmLoad, fields{"transactionId": demoID, "tac": demoTAC + "00"}, invalid, "tac: 5 bytes, expected 4"},
		{"tac odd", confirmLoad, fields{"transactionId": demoID, "tac": "5D5364F"}, invalid, "tac: 7 hex digits, expected an even number"},
		{"tac not hex", confirmLoad, fields{"transactionId": demoID, "tac": "5D5364F?"}, invalid, `tac: character 8: '?' is not a hex digit`},
		{"tac number", confirmLoad, fields{"transactionId": demoID, "tac": 12345678}, invalid, "tac: not a value of type string"},
		{"settlement without a purse", beginSettlement, fields{"keySet": "demo", "cardSerial": demoCard}, invalid, "purse: missing"},
		{"settlement without a card", beginSettlement, fields{"keySet": "demo", "purse": "PURSE_EP"}, invalid, "cardSerial: "},
		{"settlement malformed", settleLoad, settle("demo"), invalid, "settlementId: expected SET/CARD/PURSE/SETTLEMENT/NUMBER"},
		{"settlement of no set", settleLoad, settle("nope/" + demoCard + "/EP/SETTLEMENT/0000000000000000"), "not_found", "keySet: is not known"},
		{"settlement unknown", settleLoad, settle("demo/" + demoCard + "/EP/SETTLEMENT/0000000000000000"), "not_found", "settlementId: is not known"},
		{"settlement answer short", settleLoad, settle("demo/"+demoCard+"/EP/SETTLEMENT/0000000000000000").with("initializeResponse", "00"), invalid, "initializeResponse: 1 bytes, expected 16"},
		{"transaction unknown", getTransaction, fields{"transactionId": strings.Replace(demoID, "0007", "0008", 1)}, "not_found", "transactionId: is not known"},
		{"transaction malformed", getTransaction, fields{"transactionId": "x"}, invalid, "transactionId: "},
		{"page too large", listTransactions, list("pageSize", 1001), invalid, "pageSize: is 1001, expected 1 to 1000"},
		{"page negative", listTransactions, list("pageSize", -1), invalid, "pageSize: not a value of type uint32"},
		{"page token not a number", listTransactions, list("pageToken", "x"), invalid, "pageToken: is not one that this service gave"},
		{"page token negative", listTransactions, list("pageToken", "-1"), invalid, "pageToken: is not one that this service gave"},
		{"page token too large", listTransactions, list("pageToken", "9223372036854775808"), invalid, "pageToken: is not one that this service gave"},
		{"list of an unknown purse", listTransactions, list("purse", 3), invalid, "purse: 3 is not a number of Purse"},
		{"list of a bad card", listTransactions, list("cardSerial", "x"), invalid, "cardSerial: character 1"},
		{"list of an unknown set", listTransactions, fields{"keySet": "x"}, "not_found", "keySet: is not known"},
	}...)
}

// Every malformed request is refused with its code and a message that names the field, on both versions of HTTP, and leaves
// nothing behind: no transaction, no entry, no counter, no failure that counts against the card.
func TestMalformedRequests(t *testing.T) {
	w := newWorld(t)
	for i, row := range refusals() {
		platform := w.dial(w.tlsAs("platform"), i%2 == 0)
		r := platform.post(row.method, row.body)
		assert.Equal(t, row.code, r.code(), "%s: %v", row.name, r.body)
		assert.Contains(t, r.message(), row.message, row.name)
		assert.NotContains(t, r.body, "mac2", row.name)
		quiet(t, r.message(), row.name)
		wantStatus := map[string]int{invalid: http.StatusBadRequest, "not_found": http.StatusNotFound}[row.code]
		assert.Equal(t, wantStatus, r.status, row.name)
	}
	assert.Empty(t, w.attempts())
	assert.Len(t, w.entries(), 1)
	w.as("platform").approved(demoLoad())
	assert.Len(t, w.attempts(), 1)
}

// MAC1 is compared whole: each of its bits matters, in both suites.
func TestEveryBitOfMAC1(t *testing.T) {
	w := newWorld(t)
	platform := w.as("platform")
	for _, good := range []struct {
		body fields
		mac1 string
		mac2 string
	}{{demoLoad(), demoMAC1, demoMAC2}, {demoLoadSM4(), demoMAC1SM4, demoMAC2SM4}} {
		for bit := range 32 {
			mac1 := unhex(t, good.mac1)
			mac1[bit/8] ^= 1 << (bit % 8)
			r := platform.post(authorizeLoad, good.body.with("initializeResponse", demoAnswer+fmt.Sprintf("%X", mac1)))
			require.Equal(t, "OUTCOME_MAC_MISMATCH", r.body["outcome"], "bit %d: %v", bit, r.body)
			for _, none := range []string{"mac2", "command", "transactionId", "date", "settled"} {
				assert.NotContains(t, r.body, none)
			}
			assert.NotEmpty(t, r.body["auditIndex"])
			assert.Equal(t, "load", r.body["key"].(map[string]any)["kind"])
		}
		assert.Equal(t, good.mac2, platform.approved(good.body).body["mac2"])
	}
	require.Len(t, w.entries(), 1+2*(32+1)+2, "with an alarm of each key set's terminal, at the tenth")
	assert.Len(t, w.attempts(), 2)
	for _, e := range w.entries() {
		assert.Equal(t, e.Outcome == "APPROVED", e.MAC2 != "", "%v", e)
	}
}

// What MAC1 covers cannot be changed either: balance, amount, terminal, purse, counter, random, card.
func TestEveryFieldUnderMAC1(t *testing.T) {
	w := newWorld(t)
	platform := w.as("platform")
	answer := func(text string) fields { return demoLoad().with("initializeResponse", text) }
	for name, body := range map[string]fields{
		"balance":  answer("000003E9 0007 01 00 A1B2C3D4 7E1722D0"),
		"counter":  answer("000003E8 0008 01 00 A1B2C3D4 7E1722D0"),
		"random":   answer("000003E8 0007 01 00 A1B2C3D5 7E1722D0"),
		"amount":   demoLoad().with("amountFen", 101),
		"terminal": demoLoad().with("terminalId", "112233445567"),
		"purse":    demoLoad().with("purse", "PURSE_ED"),
		"card":     demoLoad().with("cardSerial", "3105228000001118"),
		"suite":    demoLoad().with("keySet", "demo-sm4"),
	} {
		r := platform.post(authorizeLoad, body)
		assert.Equal(t, "OUTCOME_MAC_MISMATCH", r.body["outcome"], "%s: %v", name, r.body)
		assert.NotContains(t, r.body, "mac2", name)
	}
	unknown := platform.post(authorizeLoad, answer("000003E8 0007 02 00 A1B2C3D4 7E1722D0"))
	assert.Equal(t, "OUTCOME_KEY_NOT_ACTIVE", unknown.body["outcome"])
	assert.Equal(t, map[string]any{"set": "demo", "kind": "load", "version": 2.0}, unknown.body["key"])
	assert.NotContains(t, unknown.body, "boundary")
	assert.Empty(t, w.attempts())
}

// Bodies that are no JSON message of the method.
func TestMalformedBodies(t *testing.T) {
	w := newWorld(t)
	platform := w.as("platform")
	good, err := json.Marshal(demoLoad())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		body    string
		message string
	}{
		"nothing":          {"", "malformed JSON"},
		"trailing garbage": {string(good) + "x", "malformed JSON"},
		"two messages":     {string(good) + string(good), "malformed JSON"},
		"cut":              {string(good[:len(good)-1]), "malformed JSON"},
		"list":             {"[" + string(good) + "]", "malformed JSON"},
		"text":             {`"` + demoTAC + `"`, "malformed JSON"},
		"bare value":       {`{"cardSerial":` + demoTAC + `}`, "malformed JSON"},
		"duplicate":        {`{"amountFen":1,` + string(good[1:]), "duplicate field"},
		"nested":           {`{"cardSerial":{"a":1}}`, "cardSerial: not a value of type string"},
		"not UTF-8":        {"{\"keySet\":\"\xff\"}", "malformed JSON (line 1:11)"},
		"deep":             {strings.Repeat(`{"a":`, 9000), "a: unknown field"},
	} {
		r := platform.send(authorizeLoad, "application/json", []byte(c.body))
		assert.Equal(t, invalid, r.code(), "%s: %v", name, r.body)
		assert.Contains(t, r.message(), c.message, name)
		quiet(t, r.message(), name)
	}
	assert.Equal(t, http.StatusOK, platform.send(authorizeLoad, "application/json; charset=utf-8", good).status)
	for _, contentType := range []string{"", "text/plain", "application/xml", "application/x-www-form-urlencoded", "application/jsonx"} {
		assert.Equal(t, http.StatusUnsupportedMediaType, platform.send(authorizeLoad, contentType, good).status, contentType)
	}
	assert.Equal(t, http.StatusNotFound, platform.send("/pursekeeper.v1.SignerService/authorizeLoad", "application/json", good).status)
	assert.Len(t, w.attempts(), 1)
	assert.Contains(t, w.logs.String(), `"msg":"request refused unread","method":"AuthorizeLoad","client":"platform","code":"malformed"`)
	assert.Contains(t, w.logs.String(), `"method":"unknown","client":"platform","code":"malformed"`)
}

// quiet asks that a text holds no MAC, no TAC and no card number of these tests.
func quiet(t *testing.T, text, name string) {
	t.Helper()
	for _, secret := range []string{demoCard, "31052280", demoMAC1, "7E1722", demoMAC1SM4, demoMAC2, demoMAC2SM4, demoTAC, "5D5364", "12345678"} {
		assert.NotContains(t, strings.ToUpper(text), secret, name)
	}
}
