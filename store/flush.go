package store

import (
	"fmt"
	"reflect"
	"slices"
)

// flush writes every difference between what was read and what was decided, and the entries.
func (b *batch) flush() error {
	for _, part := range []struct {
		name   string
		rows   func() ([]any, error)
		writer *statement
	}{
		{"purses", b.changedPurses, &b.do.putPurses},
		{"cards", b.changedCards, &b.do.putCards},
		{"new attempts", b.newAttempts, &b.do.insertAttempts},
		{"attempts", b.judgedAttempts, &b.do.updateAttempts},
		{"settlements", b.changedSettlements, &b.do.putSettlements},
		{"terminals", b.beside.changedTerminals, &b.do.beside.putTerminals},
		{"new purchases", b.beside.newPurchases, &b.do.beside.insertPurchases},
		{"purchases", b.beside.judgedPurchases, &b.do.beside.updatePurchases},
		{"sessions", b.beside.changedSessions, &b.do.beside.putSession},
		{"change requests", b.beside.changedRequests, &b.do.beside.putRequests},
		{"totals", b.beside.changedTotals, &b.do.beside.putTotals},
		{"charges given back", b.beside.chargedBlindly, &b.do.beside.chargeTotals},
		{"catalogue", b.beside.changedCustody, &b.do.beside.putCustody},
		{"audit entries", b.entries, &b.do.insertEntries},
	} {
		rows, err := part.rows()
		if err == nil {
			err = part.writer.write(b.on, rows)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", part.name, err)
		}
	}
	if len(b.lines) == 0 {
		return nil
	}
	if err := b.do.putHead.write(b.on, []any{int64(b.first) + int64(len(b.lines)), int64(b.beside.custody.revision)}); err != nil {
		return fmt.Errorf("write audit head: %w", err)
	}
	return nil
}

func (b *batch) changedPurses() (rows []any, err error) {
	for _, p := range b.purseOrder {
		if p.now.Highest != p.read.Highest || p.now.pending != p.read.pending || p.now.epoch != p.read.epoch {
			key := p.read.Key
			rows = append(rows, key.KeySet, key.Card, key.Purse, p.now.Highest, p.now.pending, p.now.epoch)
		}
	}
	return rows, nil
}

func (b *batch) changedCards() (rows []any, err error) {
	for _, c := range b.cardOrder {
		if c.now != c.read {
			rows = append(rows, c.key.keySet, c.key.card, c.now.MAC1Failures, c.now.Locked)
		}
	}
	return rows, nil
}

func (b *batch) newAttempts() (rows []any, err error) {
	rows = make([]any, 0, len(b.lines)*b.do.insertAttempts.width())
	for _, p := range b.purseOrder {
		for _, a := range p.now.attempts[len(p.read.attempts):] {
			rows = appendAttempt(rows, p.read.Key, a)
		}
	}
	return rows, nil
}

func (b *batch) judgedAttempts() (rows []any, err error) {
	for _, p := range b.purseOrder {
		for i, was := range p.read.attempts {
			if a := p.now.attempts[i]; !a.judgedAs(was) {
				rows = appendJudgement(append(rows, int64(a.AuditIndex)), a)
			}
		}
	}
	return rows, nil
}

func (b *batch) changedSettlements() (rows []any, err error) {
	for _, p := range b.purseOrder {
		for i, s := range p.now.settlements {
			if i < len(p.read.settlements) && reflect.DeepEqual(s, p.read.settlements[i]) {
				continue
			}
			if rows, err = appendSettlement(rows, p.read.Key, s); err != nil {
				return nil, err
			}
		}
	}
	return rows, nil
}

func (b *batch) entries() ([]any, error) {
	rows := make([]any, 0, len(b.lines)*b.do.insertEntries.width())
	for i, line := range b.lines {
		rows = append(rows, int64(b.first)+int64(i), string(line))
	}
	return rows, nil
}

// judgedAs reports whether the two say the same of what became of the attempt.
func (a *Attempt) judgedAs(was *Attempt) bool {
	return a.State == was.State && a.Evidence == was.Evidence && a.Contradicted == was.Contradicted &&
		a.RightTAC == was.RightTAC && slices.Equal(a.WrongTACs, was.WrongTACs)
}

// restore gives back everything that is fixed when an attempt is made, and keeps what it was judged as.
func (a *Attempt) restore(made *Attempt) {
	judged := *a
	*a = *made
	a.State, a.Evidence, a.Contradicted = judged.State, judged.Evidence, judged.Contradicted
	a.RightTAC, a.WrongTACs = judged.RightTAC, judged.WrongTACs
}
