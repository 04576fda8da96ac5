package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pursekeeper/pursekeeper/audit"
)

// Errors of the store.
var (
	// ErrNotFound: no such transaction, settlement, purchase, session or change request.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable: the database did not take the change; nothing of it may leave.
	ErrUnavailable = errors.New("the store is unavailable")
)

// Change is one decision on one purse, or on what it names beside one.
type Change struct {
	Purse PurseKey
	// Counters are the counters, beside the purse's highest, whose attempts Decide will look at.
	Counters []int
	// Settlement names the settlement to load instead of the pending one; "" is the pending one.
	Settlement string
	// Totals are the running totals that Decide will look at or add to, each once; a new attempt is charged to none but these.
	Totals []Bucket
	// Terminal names the terminal whose next serial number Decide will take; the zero key is none.
	Terminal TerminalKey
	// Purchase names, by OFFSN and R in Purse, the purchase that Decide will look at or record; nil is none.
	Purchase *AttemptKey
	// Session names the reader's session that Decide will look at or begin; "" is none.
	Session string
	// Custody says that Decide will look at the catalogue, or replace it.
	Custody bool
	// Restores says that the first catalogue of this store may have any revision: that of a backup.
	Restores bool
	// Request names the change request that Decide will look at or make; "" is none.
	Request string
	// Revision, when not 0, is the catalogue's revision that the change rests on. When it is another inside the transaction, by an
	// earlier change of the same group too, Decide is not called and Commit returns ErrRevision.
	Revision uint64
	// Decide is pure: it changes p and returns the entries to record, the first of which gets index. It runs inside the
	// transaction, and again when the transaction must be tried again, so it must set its results anew each time. An
	// error leaves the purse as it was and is returned by Commit as it is.
	Decide func(p *Purse, index uint64) ([]audit.Entry, error)
	// Committed, when not nil, is called after the transaction that holds the change is durable, whether or not its caller
	// still waits. It runs on the committing goroutine, so it must be quick.
	Committed func()
}

// check refuses what no database could look for or keep, before it fails a whole group: a name that is not UTF-8, or holds a NUL, or of a
// bucket that is too long for an index.
func (c Change) check() error {
	names := []string{c.Purse.KeySet, c.Purse.Card, c.Purse.Purse, c.Settlement, c.Terminal.KeySet, c.Terminal.Terminal, c.Session, c.Request}
	if c.Purchase != nil {
		names = append(names, c.Purchase.Random)
	}
	for _, name := range names {
		if !isText(name) {
			return fmt.Errorf("%w: %q is no name of anything", ErrNotFound, name)
		}
	}
	for _, bucket := range c.Totals {
		if !isText(bucket.Name) || len(bucket.Name) > longestBucket {
			return fmt.Errorf("bug: bucket %.100q has %d bytes, expected a text of at most %d", bucket.Name, len(bucket.Name), longestBucket)
		}
	}
	return nil
}

// longestBucket is below what an index of PostgreSQL takes.
const longestBucket = 1024

func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// Filter chooses attempts for List. Empty fields choose all.
type Filter struct {
	KeySet, Card, Purse string
	OpenOnly            bool
	After               uint64 // audit index: attempts with a greater one, in its order; entry 0 is a start and no attempt's
	Limit               int
}

// Store is the state that signers share; implemented by Database.
type Store interface {
	// Commit runs one change in the next group commit and returns after it is durable.
	Commit(ctx context.Context, c Change) error
	// Attempt returns a recorded transaction by its natural key, or ErrNotFound.
	Attempt(ctx context.Context, purse PurseKey, key AttemptKey) (Attempt, error)
	// Settlement returns a settlement and the purse that it belongs to, or ErrNotFound.
	Settlement(ctx context.Context, id string) (PurseKey, Settlement, error)
	// Purchase returns a recorded purchase by its natural key, or ErrNotFound.
	Purchase(ctx context.Context, purse PurseKey, key AttemptKey) (Purchase, error)
	// ReaderSession returns a session, or ErrNotFound.
	ReaderSession(ctx context.Context, id string) (ReaderSession, error)
	// Custody returns the catalogue; of a store without officers the zero Custody.
	Custody(ctx context.Context) (Custody, error)
	// CustodyOtherThan is Custody without the document where its revision is the known one, for those who look often.
	CustodyOtherThan(ctx context.Context, known uint64) (Custody, error)
	// ChangeRequest returns a change request, or ErrNotFound.
	ChangeRequest(ctx context.Context, id string) (ChangeRequest, error)
	// ChangeRequests returns the change requests that f chooses, in the order of their proposals.
	ChangeRequests(ctx context.Context, f RequestFilter) ([]ChangeRequest, error)
	// List returns the recorded transactions that f chooses, with their purses, in the order of commit.
	List(ctx context.Context, f Filter) ([]Listed, error)
	// Entries calls yield with each audit entry from index on, in order, until it returns false.
	Entries(ctx context.Context, from uint64, yield func(index uint64, line []byte) bool) error
	// Ready reports whether the store can commit.
	Ready(ctx context.Context) error
	// Close waits for what is in flight.
	Close() error
}

// Listed is an attempt with the purse that it belongs to.
type Listed struct {
	Purse   PurseKey
	Attempt Attempt
}
