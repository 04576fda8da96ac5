// Package limits is the arithmetic of limits: whether a transaction may be charged to the running totals as they are, and whether it is the
// one that reaches an alarm.
//
// It is pure, and runs inside the transaction that records what it decides. The rules are few:
//
//   - a purse's counter is charged once to each total, at the largest amount that was authorised there: another request at the same counter
//     adds what it is larger by, and none to the count;
//   - a total that would be above a maximum is refused, and what is refused is charged nowhere;
//   - what is given back (a load that its card did not take) is no matter of this package: the store knows it of the attempts;
//   - the day and the hour are those of the signer's clock where the key set is, never of the date in the request.
package limits

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// Asked is a request for an amount.
type Asked struct {
	Subject policy.Subject
	At      time.Time // by the signer's clock, in the key set's time zone
	Counter int       // the purse's
	Amount  uint32    // fen; of an overdraft the new limit
	Balance uint32    // fen, before the transaction, as the card's MAC1 covered it
}

// Totals is what a decision sees of the running totals: a *store.Purse, inside its transaction.
type Totals interface {
	Total(bucket string) store.Total
	// Charge is what the counter of this purse is charged with already.
	Charge(counter int, bucket string) (fen int64, charged bool)
	// Alarmed keeps the thresholds of an alarm, so that it is raised once.
	Alarmed(bucket string, fen, count int64)
}

// Plan is the limits that apply to one request, with the totals that they are over.
type Plan struct {
	asked   Asked
	grant   policy.Grant
	applied []applied
}

// applied is a limit that applies. The zero bucket is that of a limit over no running total.
type applied struct {
	*policy.Limit
	bucket store.Bucket
}

// For finds the limits of a grant that apply to a request.
func For(grant policy.Grant, asked Asked) Plan {
	p := Plan{asked: asked, grant: grant}
	for _, l := range grant.Limits() {
		if !l.Covers(asked.Subject.Purse, asked.Subject.Terminal) {
			continue
		}
		one := applied{Limit: l}
		if l.Running() {
			one.bucket.Name, one.bucket.Until = l.Bucket(asked.Subject, asked.At)
		}
		p.applied = append(p.applied, one)
	}
	return p
}

// Totals are the totals that Judge looks at, each once.
func (p Plan) Totals() (buckets []store.Bucket) {
	for _, one := range p.applied {
		if one.Running() && !slices.ContainsFunc(buckets, func(b store.Bucket) bool { return b.Name == one.bucket.Name }) {
			buckets = append(buckets, one.bucket)
		}
	}
	return buckets
}

// Buckets are the names of Totals: what an attempt is charged to.
func (p Plan) Buckets() (names []string) {
	for _, bucket := range p.Totals() {
		names = append(names, bucket.Name)
	}
	return names
}

// Judge reports why the request is refused, by the first limit that refuses it and then by the policies that mention totals; "" when none
// does. The words name the limit and what was asked, and no total: it may be of others.
func (p Plan) Judge(t Totals) (refusal string) {
	for _, one := range p.applied {
		if refusal = p.refuses(one, t); refusal != "" {
			return refusal
		}
	}
	if !p.grant.Late() {
		return ""
	}
	var denied *policy.Denied
	switch err := p.grant.Judge(p.totals(t)); {
	case errors.As(err, &denied):
		return denied.Reason
	case err != nil:
		return err.Error()
	}
	return ""
}

func (p Plan) refuses(one applied, t Totals) string {
	amount := int64(p.asked.Amount)
	switch one.Per {
	case policy.PerTransaction:
		if amount > one.MaxFen {
			return fmt.Sprintf("limit %s: %d fen, allowed are %d fen per transaction", one.Name, amount, one.MaxFen)
		}
		return ""
	case policy.PerBalance:
		if balance := int64(p.asked.Balance); balance+amount > one.MaxFen {
			return fmt.Sprintf("limit %s: %d fen on a balance of %d, allowed is a balance of %d fen", one.Name, amount, balance, one.MaxFen)
		}
		return ""
	}
	fen, count := p.after(one.bucket.Name, t)
	switch {
	case one.MaxFen > 0 && fen > one.MaxFen:
		return fmt.Sprintf("limit %s: %d fen would be above the %d fen per %s and %s; the %s ends at %s",
			one.Name, amount, one.MaxFen, one.Per, one.Period, one.Period, ends(one.bucket.Until))
	case one.MaxCount > 0 && count > one.MaxCount:
		return fmt.Sprintf("limit %s: it would be more than %d per %s and %s; the %s ends at %s",
			one.Name, one.MaxCount, one.Per, one.Period, one.Period, ends(one.bucket.Until))
	}
	return ""
}

func ends(until time.Time) string { return until.Format(time.RFC3339) }

// after is a total once the request is charged to it.
func (p Plan) after(bucket string, t Totals) (fen, count int64) {
	now := t.Total(bucket)
	had, charged := t.Charge(p.asked.Counter, bucket)
	fen, count = now.Fen-had+max(had, int64(p.asked.Amount)), now.Count
	if !charged {
		count++
	}
	return fen, count
}

// totals are those that policies mention, once the request is charged to them.
func (p Plan) totals(t Totals) (all policy.Totals) {
	for _, one := range p.applied {
		if one.Total == "" {
			continue
		}
		fen, count := p.after(one.bucket.Name, t)
		switch one.Total {
		case policy.CardDayFen:
			all.CardDayFen = uint64(fen) //nolint:gosec // a total is never below zero
		case policy.CardHourCount:
			all.CardHourCount = uint64(count) //nolint:gosec // nor a count
		case policy.ClientDayFen:
			all.ClientDayFen = uint64(fen) //nolint:gosec // as above
		case policy.TerminalDayFen:
			all.TerminalDayFen = uint64(fen) //nolint:gosec // as above
		}
	}
	return all
}

// Alarms says in words which alarms the request reaches that no earlier one of the same period did, and keeps that they are raised. It
// is called once for a request that Judge did not refuse, before its attempt is added.
func (p Plan) Alarms(t Totals) (alarms []string) {
	for _, one := range p.applied {
		if one.AlarmFen == 0 && one.AlarmCount == 0 {
			continue
		}
		now := t.Total(one.bucket.Name)
		fen, count := p.after(one.bucket.Name, t)
		if one.AlarmFen > 0 && fen >= one.AlarmFen && now.AlarmedFen < one.AlarmFen {
			t.Alarmed(one.bucket.Name, one.AlarmFen, 0)
			alarms = append(alarms, fmt.Sprintf("limit %s: %d fen per %s and %s, the alarm is at %d", one.Name, fen, one.Per, one.Period, one.AlarmFen))
		}
		if one.AlarmCount > 0 && count >= one.AlarmCount && now.AlarmedCount < one.AlarmCount {
			t.Alarmed(one.bucket.Name, 0, one.AlarmCount)
			alarms = append(alarms, fmt.Sprintf("limit %s: %d per %s and %s, the alarm is at %d", one.Name, count, one.Per, one.Period, one.AlarmCount))
		}
	}
	return alarms
}
