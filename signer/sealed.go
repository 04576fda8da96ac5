package signer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
)

// SealedRecord is the sealed record as auditors see it: what is under its newest checkpoint.
type SealedRecord interface {
	// Checkpoint returns the newest checkpoint.
	Checkpoint(ctx context.Context) (Checkpoint, error)
	// Each calls yield with the entries from an index on, in order, of a record that has the checkpoint's size, until yield returns an error,
	// which is returned.
	Each(ctx context.Context, from, size uint64, yield func(index uint64, line []byte, e audit.Entry) error) error
	// Prove returns an entry that is under the checkpoint, and the file that proves it.
	Prove(ctx context.Context, index uint64) (entry []byte, proof string, err error)
}

// Checkpoint is a signed checkpoint. The zero value: nothing is sealed yet.
type Checkpoint struct {
	Signed string
	Size   uint64
	Key    string // the verifier key
}

// SealedEntry is an entry of the sealed record.
type SealedEntry struct {
	Index uint64
	Line  []byte // its canonical encoding
}

// ErrNoSealedRecord: this signer shows no sealed record.
var ErrNoSealedRecord = errors.New("this signer has no sealed record")

// EntriesRequest is ListEntries as the caller wrote it.
type EntriesRequest struct {
	Query     audit.Query
	From      uint64
	PageSize  uint32
	PageToken string
}

// scanned bounds the entries that one page looks at: where few are chosen, a page has fewer than it may.
const scanned = 1 << 16

// pagesAtOnce bounds the pages that are made at once, for all callers: each keeps a core busy, up to a second long. Others wait.
const pagesAtOnce = 2

// longestFilter bounds each word of a filter: it is recorded.
const longestFilter = 200

// outcomeShown is how a look at the sealed record ends.
const outcomeShown = "SHOWN"

// sight is what an auditor may see: the entries of some key sets, and those of the service itself.
type sight struct {
	caller policy.Caller
	grant  policy.Grant
	sets   map[string]bool
}

func (v sight) sees(e audit.Entry) bool {
	return !slices.ContainsFunc(e.KeySets(), func(set string) bool { return !v.sets[set] })
}

// see asks the policy and is an error where there is nothing to see.
func (s view) see(ctx context.Context, caller policy.Caller, op policy.Operation, asked string) (sight, error) {
	v, err := s.maySee(ctx, caller, op, asked)
	if err == nil && s.sealed == nil {
		err = ErrNoSealedRecord
	}
	return v, err
}

// maySee asks the policy for each key set, or for the one that is asked for. A caller who may see none is denied, and that is recorded.
func (s view) maySee(ctx context.Context, caller policy.Caller, op policy.Operation, asked string) (v sight, err error) {
	v = sight{caller: caller, sets: map[string]bool{}}
	if asked != "" {
		set, grant, err := s.permit(ctx, caller, op, asked, audit.Entry{KeySet: asked}, policy.Context{})
		if err != nil {
			return v, err
		}
		v.grant = grant
		v.sets[set.Name] = grant.Allows(op, set.Name)
		return v, nil
	}
	grants, sets, err := s.permitSome(ctx, caller, op)
	if err != nil {
		return v, err
	}
	v.grant = grants[0]
	for i, set := range sets {
		v.sets[set.Name] = grants[i].Allows(op, set.Name)
	}
	return v, nil
}

// looked records a look, before its answer leaves.
func (s view) looked(ctx context.Context, v sight, op policy.Operation, keySet, detail string) error {
	return s.record(ctx, s.entry(v.caller, v.grant, op, audit.Entry{KeySet: keySet, Outcome: outcomeShown, Detail: detail}))
}

// SealedEntries lists entries, and the token of the next page, "" after the last.
func (s *Signer) SealedEntries(ctx context.Context, caller policy.Caller, r EntriesRequest) (page []SealedEntry, next string, err error) {
	look, err := s.looking(ctx)
	if err != nil {
		return nil, "", err
	}
	v, err := look.see(ctx, caller, policy.ListEntries, r.Query.KeySet)
	if err != nil {
		return nil, "", err
	}
	if err := checkQuery(r.Query); err != nil {
		return nil, "", err
	}
	limit, from := defaultPage, r.From
	if r.PageSize > largestPage {
		return nil, "", &purse.FieldError{Field: "pageSize", Problem: fmt.Sprintf("is %d, expected 1 to %d", r.PageSize, largestPage)}
	}
	if r.PageSize > 0 {
		limit = int(r.PageSize)
	}
	if r.PageToken != "" {
		if from, err = strconv.ParseUint(r.PageToken, 10, 62); err != nil {
			return nil, "", &purse.FieldError{Field: "pageToken", Problem: "is not one that this service gave"}
		}
	}
	page, end, err := look.page(ctx, v, r.Query, from, limit)
	if err != nil {
		return nil, "", err
	}
	if end.more {
		next = strconv.FormatUint(end.at, 10)
	}
	detail := strings.TrimSpace(fmt.Sprintf("%d entries of %d to %d %s", len(page), from, max(from, end.at), words(r.Query)))
	return page, next, look.looked(ctx, v, policy.ListEntries, r.Query.KeySet, detail)
}

// pageEnd is where a page ended: before which entry, and whether there are more.
type pageEnd struct {
	at   uint64
	more bool
}

var errPageFull = errors.New("the page is full")

func (s view) page(ctx context.Context, v sight, q audit.Query, from uint64, limit int) (page []SealedEntry, end pageEnd, err error) {
	select {
	case s.listing <- struct{}{}:
		defer func() { <-s.listing }()
	case <-ctx.Done():
		return nil, end, ctx.Err()
	}
	c, err := s.sealed.Checkpoint(ctx)
	if err != nil {
		return nil, end, err
	}
	end.at = from
	err = s.sealed.Each(ctx, from, c.Size, func(index uint64, line []byte, e audit.Entry) error {
		if len(page) == limit || index-from == scanned {
			end.more = true
			return errPageFull
		}
		end.at = index + 1
		if q.Matches(e) && v.sees(e) {
			page = append(page, SealedEntry{index, line})
		}
		return nil
	})
	if errors.Is(err, errPageFull) {
		err = nil
	}
	return page, end, err
}

// SealedEntry returns one entry, with the file that proves it when proof is asked for.
func (s *Signer) SealedEntry(ctx context.Context, caller policy.Caller, index uint64, prove bool) (entry SealedEntry, proof string, err error) {
	op := policy.ReadEntry
	if prove {
		op = policy.ProveEntry
	}
	look, err := s.looking(ctx)
	if err != nil {
		return entry, "", err
	}
	v, err := look.see(ctx, caller, op, "")
	if err != nil {
		return entry, "", err
	}
	c, err := s.sealed.Checkpoint(ctx)
	if err != nil {
		return entry, "", err
	}
	if index >= c.Size {
		return entry, "", &NotFoundError{Field: "index", Name: strconv.FormatUint(index, 10)}
	}
	var e audit.Entry
	err = s.sealed.Each(ctx, index, c.Size, func(_ uint64, line []byte, decoded audit.Entry) error {
		entry, e = SealedEntry{index, line}, decoded
		return errPageFull
	})
	if !errors.Is(err, errPageFull) {
		return SealedEntry{}, "", cmp.Or(err, error(&NotFoundError{Field: "index", Name: strconv.FormatUint(index, 10)}))
	}
	detail := fmt.Sprintf("entry %d", index)
	if !v.sees(e) {
		denial := look.entry(caller, v.grant, op, audit.Entry{KeySet: e.KeySet})
		return SealedEntry{}, "", look.denied(ctx, denial, detail+" is of a key set that the client may not use")
	}
	if prove {
		if entry.Line, proof, err = s.sealed.Prove(ctx, index); err != nil {
			return SealedEntry{}, "", err
		}
	}
	return entry, proof, look.looked(ctx, v, op, e.KeySet, detail)
}

// LatestCheckpoint returns the newest checkpoint; nothing sealed yet is not found.
func (s *Signer) LatestCheckpoint(ctx context.Context, caller policy.Caller) (c Checkpoint, err error) {
	look, err := s.looking(ctx)
	if err != nil {
		return c, err
	}
	v, err := look.see(ctx, caller, policy.LatestCheckpoint, "")
	if err != nil {
		return c, err
	}
	if c, err = s.sealed.Checkpoint(ctx); err != nil {
		return c, err
	}
	if c.Size == 0 {
		return c, &NotFoundError{Field: "checkpoint"}
	}
	return c, look.looked(ctx, v, policy.LatestCheckpoint, "", fmt.Sprintf("size %d", c.Size))
}

// ExportEntries permits and records an export, and returns what makes it: it calls yield with the chosen entries, in order, of the record as it
// is sealed now.
func (s *Signer) ExportEntries(ctx context.Context, caller policy.Caller, q audit.Query, from uint64) (
	export func(ctx context.Context, yield func(SealedEntry) error) error, err error,
) {
	seen := s.Revision()
	look, err := s.looking(ctx)
	if err != nil {
		return nil, err
	}
	v, err := look.see(ctx, caller, policy.ExportEntries, q.KeySet)
	if err != nil {
		return nil, err
	}
	if err := checkQuery(q); err != nil {
		return nil, err
	}
	c, err := s.sealed.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	detail := strings.TrimSpace(fmt.Sprintf("entries %d to %d %s", from, max(from, c.Size), words(q)))
	if err := look.looked(ctx, v, policy.ExportEntries, q.KeySet, detail); err != nil {
		return nil, err
	}
	return func(ctx context.Context, yield func(SealedEntry) error) error {
		return s.sealed.Each(ctx, from, c.Size, func(index uint64, line []byte, e audit.Entry) error {
			if now := s.Revision(); now != seen { // officers may have suspended the caller
				if v, err = s.seeAgain(ctx, caller, policy.ExportEntries, q.KeySet); err != nil {
					return err
				}
				seen = now
			}
			if !q.Matches(e) || !v.sees(e) {
				return nil
			}
			return yield(SealedEntry{index, line})
		})
	}, nil
}

// seeAgain is see for a look that goes on, by the policy that is the newest now.
func (s *Signer) seeAgain(ctx context.Context, caller policy.Caller, op policy.Operation, asked string) (sight, error) {
	look, err := s.looking(ctx)
	if err != nil {
		return sight{}, err
	}
	return look.see(ctx, caller, op, asked)
}

// filters are the words of a query, by their fields in a request.
func filters(q audit.Query) []struct{ field, value string } {
	return []struct{ field, value string }{
		{"card", q.Card}, {"terminal", q.Terminal}, {"client", q.Client}, {"key", q.Key}, {"operation", string(q.Event)}, {"outcome", q.Outcome},
	}
}

func checkQuery(q audit.Query) error {
	for _, f := range filters(q) {
		if len(f.value) > longestFilter {
			return &purse.FieldError{Field: "filter." + f.field, Problem: fmt.Sprintf("%d bytes, expected at most %d", len(f.value), longestFilter)}
		}
	}
	return nil
}

// words say what a query chose, for the record.
func words(q audit.Query) string {
	var all []string
	for _, f := range filters(q) {
		if f.value != "" {
			all = append(all, fmt.Sprintf("%s %q", f.field, f.value))
		}
	}
	return strings.Join(all, " ")
}
