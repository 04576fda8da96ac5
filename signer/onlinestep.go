package signer

import (
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/signer/limits"
	"github.com/pursekeeper/pursekeeper/store"
)

// onlineStep is step 5 of DESIGN, §3, of one request: what it decides on, and what comes of it.
type onlineStep struct {
	online
	ledger          ledger.Ledger
	entry           audit.Entry
	used            KeyUsed
	plan            limits.Plan
	attempt         *store.Attempt // to record, but for its index
	mac1, conflicts watched
	counting        bool // conflicts is what a conflict is counted in: nothing is asked about that before there is one

	answer Authorization
	alarms []audit.Event
}

// decide runs inside the transaction, perhaps again. Its order matters: a recorded answer is given again whatever the limits are by now, and
// a refusal by a limit keeps what the right MAC1 proved.
func (s *onlineStep) decide(p *store.Purse, index uint64) (entries []audit.Entry, err error) {
	s.alarms = nil
	if outcome, detail := shut(p, s.mac1); outcome != "" {
		s.answer = Authorization{Outcome: outcome, Key: s.used, AuditIndex: index, Detail: detail}
		return []audit.Entry{refused(s.entry, s.answer)}, nil
	}
	var refusal ledger.Outcome
	detail := s.plan.Judge(p)
	if detail != "" {
		refusal = ledger.LimitExceeded
	}
	var reached []string
	result := s.ledger.Authorize(p, s.asked(), refusal, func() *store.Attempt {
		reached = s.plan.Alarms(p)
		made := *s.attempt
		made.AuditIndex = index
		return &made
	})
	if result.Outcome == ledger.LimitExceeded {
		result.Reason = detail
	}
	s.answer = s.authorization(result, s.used, index)
	switch {
	case result.Outcome == ledger.CounterConflict && !s.counting:
		return nil, errToCount
	case result.Recorded && result.Outcome != ledger.CounterConflict:
		return nil, nil // the recorded answer again: its entry is there
	}
	entries, s.alarms = authorizationEntries(s.entry, s.answer, result)
	if result.Outcome == ledger.CounterConflict {
		entries, s.alarms = s.conflicts.count(p, 1, entries, s.alarms)
	}
	for _, detail := range reached {
		entries, s.alarms = append(entries, alarmEntry(entries[0], audit.LimitAlarm, detail)), append(s.alarms, audit.LimitAlarm)
	}
	return entries, nil
}
