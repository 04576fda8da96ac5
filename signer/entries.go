package signer

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// refused completes an entry whose answer carries no MAC.
func refused(e audit.Entry, a Authorization) audit.Entry {
	e.Outcome, e.Detail = string(a.Outcome), a.Detail
	return e
}

// authorizationEntries completes the entry of a decision and adds the alarms that it found.
func authorizationEntries(e audit.Entry, a Authorization, r ledger.Result) ([]audit.Entry, []audit.Event) {
	e.Outcome, e.Detail, e.MAC2 = string(a.Outcome), a.Detail, a.MAC2
	e.Settled = settledEntries(r.Settled)
	return withUnexplained([]audit.Entry{e}, r)
}

// withUnexplained adds the alarm about counters that a card passed without an authorisation.
func withUnexplained(entries []audit.Entry, r ledger.Result) ([]audit.Entry, []audit.Event) {
	if r.Unexplained.Empty() {
		return entries, nil
	}
	detail := fmt.Sprintf("counters %04X to %04X were passed with nothing authorised there", r.Unexplained.From, r.Unexplained.To)
	return append(entries, alarmEntry(entries[0], audit.UnexplainedCounter, detail)), []audit.Event{audit.UnexplainedCounter}
}

// alarmEntry is an entry about what another entry's request brought to light.
func alarmEntry(cause audit.Entry, event audit.Event, detail string) audit.Entry {
	return audit.Entry{
		Time: cause.Time, Event: event, Client: cause.Client, Role: cause.Role, Policy: cause.Policy,
		KeySet: cause.KeySet, Card: cause.Card, Purse: cause.Purse, Transaction: cause.Transaction,
		Settlement: cause.Settlement, Session: cause.Session, Outcome: "ALARM", Detail: detail,
	}
}

func settledEntries(proved []store.Proved) (settled []audit.Settled) {
	for _, p := range proved {
		settled = append(settled, audit.Settled{Transaction: p.ID, Outcome: string(p.State), Evidence: string(p.Evidence)})
	}
	return settled
}
