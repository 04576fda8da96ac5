package signer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// Outcomes in the record of items that failed, by the code of their error on the wire.
const (
	outcomeInvalid  = "INVALID_ARGUMENT"
	outcomeNotFound = "NOT_FOUND"
)

// recorded is the outcome of an item as the record has it.
func (r *TACResult) recorded() string {
	var field *purse.FieldError
	var denied *policy.Denied
	switch {
	case r.Err == nil:
		return string(r.Outcome)
	case errors.As(r.Err, &field):
		return outcomeInvalid
	case errors.As(r.Err, &denied):
		return outcomeDenied
	}
	return outcomeNotFound
}

// commitTACs counts, records, and only then answers: the entry of the batch first, those of the items that were not verified after
// it, in one transaction, so that their indexes follow without a gap.
func (s view) commitTACs(ctx context.Context, caller policy.Caller, b *tacBatch) (TACBatch, error) {
	answer := TACBatch{Results: b.results}
	answer.count()
	entries := []audit.Entry{s.batchEntry(caller, b, &answer)}
	entries[0].Batch.Digest = b.digest()
	var own []int // of each further entry: its item
	for i := range b.results {
		if e, ok := s.itemEntry(caller, b, i); ok {
			entries, own = append(entries, e), append(own, i)
		}
	}
	ctx, cancel := judged(ctx)
	defer cancel()
	at := new(uint64) // not a result variable: after an early return the committing goroutine may still write it
	failures := s.watchBatch(b, entries[0])
	var alarms []audit.Event
	err := s.commit(ctx, store.Change{
		Totals: failures.totals(), Committed: func() { s.raise(alarms) },
		Decide: func(p *store.Purse, index uint64) (all []audit.Entry, err error) {
			*at = index
			all, alarms = failures.count(p, entries[:len(entries):len(entries)], nil)
			return all, nil
		},
	})
	if err != nil {
		return TACBatch{}, err
	}
	answer.AuditIndex = *at
	for i := range b.results {
		if b.results[i].Err == nil {
			b.results[i].AuditIndex = *at
		}
	}
	for n, i := range own {
		b.results[i].AuditIndex = *at + uint64(n) + 1
	}
	return answer, nil
}

func (a *TACBatch) count() {
	for i := range a.Results {
		switch r := &a.Results[i]; {
		case r.Err == nil && r.Outcome == ledger.Verified:
			a.Verified++
		case r.Err == nil && r.Outcome == ledger.TACMismatch:
			a.Mismatched++
		default:
			a.Failed++
		}
	}
}

// batchEntry is the entry of the whole batch. Its key set is named when all items name one that the caller may use.
func (s view) batchEntry(caller policy.Caller, b *tacBatch, a *TACBatch) audit.Entry {
	e := s.entry(caller, policy.Grant{}, policy.VerifyTacs, audit.Entry{Outcome: "OK", Batch: &audit.Batch{
		Items: len(b.items), Verified: a.Verified, Mismatched: a.Mismatched, Failed: a.Failed, Keys: b.keys(),
	}})
	e.Policy = s.keys.policy.Digest()
	if p := b.sets[b.items[0].KeySet]; len(b.sets) == 1 && p.err == nil {
		e.KeySet = p.set.Name
	}
	return e
}

// keys are the keys of the batch: one key at several issuers' levels is one.
func (b *tacBatch) keys() (keys []audit.BatchKey) {
	at := map[audit.Key]int{}
	for _, g := range b.groups {
		n, known := at[g.used.Key]
		if !known {
			n = len(keys)
			at[g.used.Key] = n
			keys = append(keys, audit.BatchKey{Key: g.used.Key, Boundary: g.used.Boundary})
		}
		keys[n].Items += g.items
	}
	return keys
}

// itemEntry is the entry of an item that was not verified; one that was denied has none of its own. Of a malformed item the record
// keeps what was wrong and nothing of what it said.
func (s view) itemEntry(caller policy.Caller, b *tacBatch, i int) (audit.Entry, bool) {
	r, p := &b.results[i], b.sets[b.items[i].KeySet]
	var e audit.Entry
	switch outcome := r.recorded(); {
	case outcome == string(ledger.Verified) || outcome == outcomeDenied:
		return e, false
	case outcome == outcomeNotFound:
		e.Detail = "keySet: is not known"
	case outcome == outcomeInvalid:
		e.KeySet, e.Detail = p.set.Name, r.Err.Error()
	default:
		e = b.tacs[i].recorded(p.set)
		e.Detail, e.Key, e.Boundary = r.Detail, &r.Key.Key, r.Key.Boundary
	}
	e.Outcome, e.Inputs.Item = r.recorded(), i+1
	e = s.entry(caller, p.grant, policy.VerifyTacs, e)
	e.Policy = s.keys.policy.Digest()
	return e, true
}

// digest is what the record keeps of all items together: SHA-256, in hex, over one line of ASCII for each item, in their order,
// each ended by LF, its fields parted by one space.
//
//	VERIFIED|TAC_MISMATCH|KEY_NOT_ACTIVE KEYSET CARD KVER DATA TAC      an item that was judged
//	INVALID_ARGUMENT|NOT_FOUND|PERMISSION_DENIED                        an item that failed
//
// CARD is as in the record: the 16 digits of the factor, with the issuer's 16 and a hyphen in front where the key set takes it
// from the card. KVER is decimal. DATA is what the TAC covers (EPURSE.md §5), TTI and all, and TAC the four bytes that were shown,
// in upper-case hex digits. So whoever has the items can show that these, and no others, had these outcomes.
func (b *tacBatch) digest() string {
	sum := sha256.New()
	var line []byte
	for i := range b.results {
		r := &b.results[i]
		line = append(line[:0], r.recorded()...)
		if r.Err == nil {
			t := &b.tacs[i]
			line = append(append(line, ' '), r.Key.Set...)
			line = append(append(line, ' '), t.card.id...)
			line = strconv.AppendInt(append(line, ' '), int64(t.kver), 10)
			line = appendHex(append(line, ' '), t.data)
			line = appendHex(append(line, ' '), t.value[:])
		}
		sum.Write(append(line, '\n'))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// appendHex appends upper-case hex digits.
func appendHex(dst, b []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range b {
		dst = append(dst, digits[c>>4], digits[c&0x0F])
	}
	return dst
}
