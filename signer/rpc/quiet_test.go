package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/purse"
)

// demoSession makes every kind of request there is, good and bad, and returns the messages of all errors.
func demoSession(t *testing.T, w *world, x *trouble) (messages []string) {
	t.Helper()
	platform := w.as("platform")
	collect := func(r reply) { messages = append(messages, r.message(), r.text("detail")) }
	platform.approved(demoLoad())
	platform.approved(demoLoadSM4())
	for _, row := range refusals() {
		collect(platform.post(row.method, row.body))
	}
	for path, row := range methodRows() {
		for _, role := range []string{"platform", "officer", "auditor", "reader", "nobody"} {
			collect(w.as(role).post(path, row.body))
		}
	}
	for _, body := range []fields{
		demoLoad().with("amountFen", 101), demoLoad().with("time", "000000"), demoLoad().with("initializeResponse", demoAnswer+"7E1722D1"),
		demoLoad().with("initializeResponse", "000003E8 0007 09 00 A1B2C3D4 7E1722D0"),
	} {
		collect(platform.post(authorizeLoad, body))
	}
	for _, tac := range []string{"5D5364F1", "5D5364F2", demoTAC} {
		collect(platform.post(confirmLoad, fields{"transactionId": demoID, "tac": tac}))
	}
	begun := platform.post(beginSettlement, fields{"keySet": "demo", "cardSerial": demoCard, "purse": "PURSE_EP"})
	require.NotEmpty(t, begun.text("settlementId"), "%v", begun.body)
	collect(platform.post(settleLoad, fields{"settlementId": begun.text("settlementId"), "initializeResponse": demoAnswer + demoMAC1}))
	collect(platform.send(authorizeLoad, "application/json", []byte(`{"cardSerial":`+demoTAC)))
	collect(platform.send("/"+demoCard+"/"+demoTAC, "application/json", nil))
	for _, trouble := range []func(context.Context) error{
		func(context.Context) error { return errors.New("odd") },
		func(context.Context) error { panic("bug") },
	} {
		x.key.Store(&trouble)
		collect(platform.post(authorizeLoad, demoLoad()))
		x.commit.Store(&trouble)
		collect(platform.post(confirmLoad, fields{"transactionId": demoID, "tac": "5D5364F7"}))
		x.key.Store(nil)
		x.commit.Store(nil)
	}
	return messages
}

// Log, error messages and metrics of a whole session hold no MAC, no TAC, no card number and no key, in any writing.
func TestNothingOfACardIsLogged(t *testing.T) {
	var x trouble
	w := newWorld(t, x.setup)
	messages := demoSession(t, w, &x)
	require.NoError(t, w.end())

	log := w.logs.String()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	require.Greater(t, len(lines), 100)
	for _, line := range lines {
		require.True(t, json.Valid([]byte(line)), line)
	}
	gathered, err := w.registry.Gather()
	require.NoError(t, err)
	everything := map[string]string{
		"log": log, "messages": strings.Join(messages, "\n"), "metrics": fmt.Sprint(gathered),
	}
	for where, text := range everything {
		require.NotEmpty(t, text)
		quiet(t, text, where)
		for kind, master := range testMasters {
			key := unhex(t, master)
			assert.NotContains(t, strings.ToUpper(text), master[:8], "%s: %v key", where, kind)
			assert.NotContains(t, text, string(key), "%s: %v key", where, kind)
			assert.NotContains(t, text, fmt.Sprint(key[:4])[1:], "%s: %v key", where, kind)
		}
		assert.NotContains(t, text, "A1B2C3D4", where)
	}
	assert.Contains(t, log, `"method":"AuthorizeLoad","client":"platform","code":"ok","outcome":"OUTCOME_APPROVED"`)
	assert.Contains(t, log, `"outcome":"OUTCOME_TAC_MISMATCH"`)
	assert.Contains(t, log, `"outcome":"OUTCOME_COUNTER_CONFLICT"`)
}

// Repeated wrong MAC1s lock a card, which is an alarm, an outcome and a series; an officer lifts the lock and says why.
func TestALockedCardOverTheWire(t *testing.T) {
	w := newWorld(t, func(s *setup) { s.keySets[0].MAC1Failures = 3 })
	platform, officer := w.as("platform"), w.as("officer")
	wrong := demoLoad().with("initializeResponse", demoAnswer+"00000000")
	for range 3 {
		assert.Equal(t, "OUTCOME_MAC_MISMATCH", platform.post(authorizeLoad, wrong).body["outcome"])
	}
	locked := platform.post(authorizeLoad, demoLoad())
	assert.Equal(t, "OUTCOME_CARD_LOCKED", locked.body["outcome"])
	assert.NotContains(t, locked.body, "mac2")
	assert.Contains(t, locked.body["detail"], "an officer must lift the lock")
	refused := platform.post(beginSettlement, fields{"keySet": "demo", "cardSerial": demoCard, "purse": "PURSE_EP"})
	assert.Equal(t, "OUTCOME_CARD_LOCKED", refused.body["outcome"])
	for _, none := range []string{"settlementId", "expiresAt", "command", "terminalId"} {
		assert.NotContains(t, refused.body, none)
	}
	_, metrics := w.scrape("/metrics")
	assert.Contains(t, metrics, `pursekeeper_alarms_total{event="`+string(audit.CardLocked)+`"} 1`)

	unlock := fields{"keySet": "demo", "cardSerial": demoCard}
	for _, reason := range []string{"", strings.Repeat("x", 501)} {
		r := officer.post(unlockCard, unlock.with("reason", reason))
		assert.Equal(t, invalid, r.code())
		assert.Contains(t, r.message(), "reason: ")
	}
	first := officer.post(unlockCard, unlock.with("reason", "card was dirty"))
	assert.Equal(t, true, first.body["wasLocked"], "%v", first.body)
	assert.NotContains(t, officer.post(unlockCard, unlock.with("reason", "again")).body, "wasLocked")
	platform.approved(demoLoad())
}

// A settlement answered with an amount that does not fit names a field that SettleLoad has.
func TestSettlementOverflowNamesItsField(t *testing.T) {
	w := newWorld(t)
	platform := w.as("platform")
	begun := platform.post(beginSettlement, fields{"keySet": "demo", "cardSerial": demoCard, "purse": "PURSE_EP"})
	assert.Equal(t, 1.0, begun.body["amountFen"])
	assert.Regexp(t, "^8050000[12]0B01"+"00000001"+begun.text("terminalId")+"10$", begun.text("command"))
	assert.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`, begun.text("expiresAt"))
	r := platform.post(settleLoad, fields{
		"settlementId": begun.text("settlementId"), "initializeResponse": "FFFFFFFF 0007 01 00 A1B2C3D4 7E1722D0",
	})
	assert.Equal(t, invalid, r.code(), "%v", r.body)
	assert.Contains(t, r.message(), "initializeResponse: ")
	plain := errors.New("plain")
	assert.Equal(t, plain, inField(plain, sumField, "amountFen"))
	other := &purse.FieldError{Field: "date", Problem: "x"}
	assert.Equal(t, error(other), inField(other, sumField, "amountFen"))
}
