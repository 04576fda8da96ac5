package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/past"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
)

// Replay of history. An auditor's right is to compare: it learns whether what is recorded is what the keys make, and never a MAC. So the
// recomputation is here, beside the keys, over entries that this signer's record holds. A caller gives indexes and nothing else: one who
// could give entries, or inputs, would find any four-byte MAC in 2^32 tries.

// Past is the record as a replay reads it: sealed entries alone (package audit/past says why).
type Past interface {
	// Sealed is the number of sealed entries.
	Sealed(ctx context.Context) (uint64, error)
	// Entry returns one sealed entry.
	Entry(ctx context.Context, index uint64) (past.Entry, error)
	// Entries calls yield with each sealed entry from an index on, in order, until it returns false.
	Entries(ctx context.Context, from uint64, yield func(past.Entry) bool) error
}

// ErrNoPast: the signer was given no sealed record to replay from.
var ErrNoPast = errors.New("this signer has no sealed record to replay from")

// Verdict is what a replay found of one entry. The zero value is invalid.
type Verdict uint8

// The verdicts.
const (
	Equal         Verdict = iota + 1 // every MAC of the entry is what the keys make, and was judged as the entry says
	Different                        // it is not
	NotReplayable                    // the record does not hold what it takes, on purpose
	KeyGone                          // the signer has the key no more
	NoMAC                            // the entry is about no MAC
)

var verdictNames = map[Verdict]string{
	Equal: "EQUAL", Different: "DIFFERENT", NotReplayable: "NOT_REPLAYABLE", KeyGone: "KEY_GONE", NoMAC: "NO_MAC",
}

// String is the verdict's name on the wire.
func (v Verdict) String() string {
	if name, ok := verdictNames[v]; ok {
		return name
	}
	return fmt.Sprintf("invalid verdict %d", uint8(v))
}

// ReplayRequest chooses sealed entries: from an index up to another (0: all that are sealed), of a time and later, and before another.
type ReplayRequest struct {
	From, To     uint64
	Since, Until time.Time
	Limit        uint32 // entries that one call looks at; 0: as many as one may
}

// Replayed is what one call of Replay found: results in the order of the record, and where the next call goes on.
type Replayed struct {
	Results    []ReplayedEntry
	Next       uint64 // index to go on from
	Done       bool   // nothing is left of what was asked for
	Sealed     uint64 // number of sealed entries
	AuditIndex uint64
}

// ReplayedEntry is one verdict. No MAC is in it, not even the recorded one.
type ReplayedEntry struct {
	Index       uint64
	Verdict     Verdict
	Reason      string      // of Different: what differs; of NotReplayable: why
	Event       audit.Event // "" with the two below of an entry that was altered, or of a key set that the caller may not use
	Outcome     string
	Transaction string
}

// Bounds of one call: of the entries that it looks at, and of the time after which it begins no further entry.
const (
	replayEntries = 1024
	replayTime    = time.Second
)

// clockSlack is how far an entry's time may be behind that of one before it: as the verifier of the log allows.
const clockSlack = time.Minute

// Replay compares recorded entries with the keys, a part of what is asked for at each call. Entries of key sets that the caller may not
// use are not compared. What it found is recorded before it is answered.
//
// It leaves the token to live traffic: one call at a time in a signer, one entry after another, and three quarters of the time nothing.
//
// Errors: *policy.Denied, *purse.FieldError, ErrNoPast, and those of the token and the store, after which the same call may be made again.
func (s *Signer) Replay(ctx context.Context, caller policy.Caller, r ReplayRequest) (Replayed, error) {
	look, err := s.looking(ctx)
	if err != nil {
		return Replayed{}, err
	}
	return look.replayPart(ctx, caller, r)
}

func (s view) replayPart(ctx context.Context, caller policy.Caller, r ReplayRequest) (Replayed, error) {
	grants, err := s.permitReplay(ctx, caller)
	if err != nil {
		return Replayed{}, err
	}
	if s.past == nil {
		return Replayed{}, ErrNoPast
	}
	sealed, err := s.past.Sealed(ctx)
	if err != nil {
		return Replayed{}, err
	}
	switch {
	case r.To == 0 || r.To > sealed:
		r.To = sealed
	case r.From > r.To:
		return Replayed{}, &purse.FieldError{Field: "from", Problem: fmt.Sprintf("is %d, after to, %d", r.From, r.To)}
	}
	select {
	case s.replaying <- struct{}{}:
		defer func() { <-s.replaying }()
	case <-ctx.Done():
		return Replayed{}, ctx.Err()
	}
	answer, err := s.replay(ctx, caller, grants, r)
	answer.Sealed = sealed
	return answer, err
}

// permitReplay asks the policy for each key set. A caller that may replay none is denied, and the record says so.
func (s view) permitReplay(ctx context.Context, caller policy.Caller) (map[string]policy.Grant, error) {
	granted, sets, err := s.permitSome(ctx, caller, policy.Replay)
	if err != nil {
		return nil, err
	}
	grants := make(map[string]policy.Grant, len(sets))
	for i, set := range sets {
		grants[set.Name] = granted[i]
	}
	return grants, nil
}

// Outcomes of a replay in the record.
const (
	outcomeReplayed  = "REPLAYED"
	outcomeDifferent = "DIFFERENT"
)

// replay is the operation behind the permissions.
func (s view) replay(ctx context.Context, caller policy.Caller, grants map[string]policy.Grant, r ReplayRequest) (Replayed, error) {
	from, err := s.firstSince(ctx, r)
	if err != nil {
		return Replayed{}, err
	}
	answer := Replayed{Next: from, Done: from >= r.To}
	began, looked, most, budget := time.Now(), 0, replayEntries, replayTime
	if deadline, ok := ctx.Deadline(); ok {
		budget = min(budget, time.Until(deadline)/2) // what was compared is to be answered
	}
	if r.Limit > 0 {
		most = min(int(r.Limit), replayEntries)
	}
	var failed error
	if !answer.Done {
		err = s.past.Entries(ctx, from, func(sealed past.Entry) bool {
			if answer.Done = sealed.Index >= r.To; answer.Done || looked == most || looked > 0 && time.Since(began) > budget {
				return false
			}
			looked++
			var more bool
			if more, failed = s.replayOne(ctx, grants, r, sealed, &answer); failed != nil {
				return false
			}
			answer.Next = sealed.Index + 1
			answer.Done = !more || answer.Next >= r.To
			return more
		})
	}
	if err = errors.Join(failed, err); err != nil {
		return Replayed{}, err
	}
	return s.recordReplay(ctx, caller, from, answer)
}

// firstSince is the index to begin at: not before the first entry of the time that was asked for.
func (s view) firstSince(ctx context.Context, r ReplayRequest) (uint64, error) {
	if r.Since.IsZero() {
		return r.From, nil
	}
	low, high := r.From, r.To
	for low < high {
		middle := low + (high-low)/2
		found, err := s.past.Entry(ctx, middle)
		if err != nil {
			return 0, err
		}
		e, err := audit.Decode(found.Line)
		if err != nil || found.Altered || !e.Time.Before(r.Since.Add(-clockSlack)) {
			high = middle // one that cannot be read is not passed over
		} else {
			low = middle + 1
		}
	}
	return low, nil
}

// replayOne judges an entry and adds what it found; more is false when it, and all after it, are later than was asked for.
func (s view) replayOne(ctx context.Context, grants map[string]policy.Grant, r ReplayRequest, sealed past.Entry, answer *Replayed) (
	more bool, err error,
) {
	result := ReplayedEntry{Index: sealed.Index, Verdict: Different, Reason: differsSealed}
	e, err := audit.Decode(sealed.Line)
	if err != nil || sealed.Altered {
		answer.Results = append(answer.Results, result)
		return true, nil
	}
	if !r.Until.IsZero() && e.Time.After(r.Until.Add(clockSlack)) {
		return false, nil
	}
	if e.Time.Before(r.Since) || !r.Until.IsZero() && !e.Time.Before(r.Until) {
		return true, nil
	}
	if !mayJudge(grants, e) {
		result.Verdict, result.Reason = NotReplayable, blindKeySet
		answer.Results = append(answer.Results, result)
		return true, nil
	}
	result.Event, result.Outcome, result.Transaction = e.Event, e.Outcome, e.Transaction
	began := time.Now()
	f, err := s.compare(ctx, grants, e)
	if err != nil {
		return false, fmt.Errorf("replay of entry %d: %w", sealed.Index, err)
	}
	result.Verdict, result.Reason = f.verdict, f.reason
	answer.Results = append(answer.Results, result)
	if f.verdict != Equal && f.verdict != Different {
		return true, nil
	}
	return true, s.rest(ctx, restShare*time.Since(began))
}

// mayJudge reports whether the caller may use all key sets that an entry is about. Of one that he may not, a replay says its index and no
// more: a transaction's id has the card in it.
func mayJudge(grants map[string]policy.Grant, e audit.Entry) bool {
	return !slices.ContainsFunc(e.KeySets(), func(set string) bool { return !grants[set].Allows(policy.Replay, set) })
}

// restShare is how many times as long as it computed a replay then leaves the token alone.
const restShare = 3

// resting waits, or until ctx ends.
func resting(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// recordReplay writes the entry of a call; only then the verdicts leave.
func (s view) recordReplay(ctx context.Context, caller policy.Caller, from uint64, answer Replayed) (Replayed, error) {
	counts := map[Verdict]int{}
	for _, r := range answer.Results {
		counts[r.Verdict]++
	}
	entry := s.entry(caller, policy.Grant{}, policy.Replay, audit.Entry{Outcome: outcomeReplayed})
	entry.Policy = s.keys.policy.Digest()
	if counts[Different] > 0 {
		entry.Outcome = outcomeDifferent
	}
	entry.Detail = fmt.Sprintf("entries %d up to %d: %d equal, %d different, %d not replayable, %d of keys that are gone, %d of no MAC",
		from, answer.Next, counts[Equal], counts[Different], counts[NotReplayable], counts[KeyGone], counts[NoMAC])
	index, err := s.recordJudged(ctx, entry)
	if err != nil {
		return Replayed{}, err
	}
	answer.AuditIndex = index
	return answer, nil
}
