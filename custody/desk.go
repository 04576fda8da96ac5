package custody

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// reasons are the typed errors with the outcomes that the record has for them, the most telling first.
var reasons = []struct {
	err     error
	outcome string
}{
	{ErrUnknown, "UNKNOWN"}, {ErrNotAnOfficer, "NOT_AN_OFFICER"}, {ErrOwnChange, "OWN_CHANGE"}, {ErrApprovedTwice, "APPROVED_TWICE"},
	{ErrNotOpen, "NOT_OPEN"}, {ErrExpired, "EXPIRED"}, {ErrWrongChange, "WRONG_CHANGE"}, {ErrSignature, "SIGNATURE"}, {ErrNotAuthor, "NOT_AUTHOR"},
	{ErrOwnRemoval, "OWN_REMOVAL"}, {ErrBaseChanged, "BASE_CHANGED"}, {ErrBusy, "BUSY"}, {ErrSameKey, "SAME_KEY"}, {ErrOfficersFew, "OFFICERS_FEW"},
	{ErrNoQuorum, "NO_QUORUM"}, {ErrMalformed, "MALFORMED"}, {ErrToken, "TOKEN"}, {ErrInvalid, "INVALID"},
}

// Reason is the name of a refusal, such as "EXPIRED", as the record and the API have it; "" of any other error.
func Reason(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.outcome
		}
	}
	return ""
}

// desk is one decision on one change request, inside the store's transaction.
type desk struct {
	p         *store.Purse
	by        Caller
	now       time.Time
	index     uint64 // of the first entry
	catalogue Catalogue
	request   *store.ChangeRequest // nil: there is none
	change    Change               // as the request's body has it
	entries   []audit.Entry
}

// noChange is an id that no change has.
const noChange = "00000000000000000000000000000000"

// decide runs one decision. An error that has a Reason is a refusal: what the decision did to the request stays, so that it can end it, and it is
// recorded; it is returned after its entry is durable. Any other error leaves nothing; store.ErrRevision is that the caller was permitted by an
// older catalogue than there is.
func (o *Office) decide(ctx context.Context, by Caller, id string, purse store.PurseKey, f func(*desk) error) (store.ChangeRequest, error) {
	if !changeID.MatchString(id) {
		id = noChange // what a caller sends as an id is neither looked for nor recorded
	}
	var refused error
	var after store.ChangeRequest
	var revision uint64
	now := o.Now()
	err := o.Store.Commit(ctx, store.Change{
		Purse: purse, Custody: true, Request: id, Revision: by.Revision,
		Decide: func(p *store.Purse, index uint64) ([]audit.Entry, error) {
			refused, after, revision = nil, store.ChangeRequest{}, 0
			d := &desk{p: p, by: by, now: now, index: index, request: p.Request(), change: Change{ID: id}}
			var err error
			if d.catalogue, err = readCatalogue(*p.Custody()); err != nil {
				return nil, err
			}
			if d.request != nil {
				if d.change, err = DecodeChange(d.request.Body); err != nil {
					return nil, err
				}
			}
			if err := f(d); err != nil {
				if Reason(err) == "" {
					return nil, err
				}
				refused = err
				d.refuse(err)
			}
			if d.request != nil {
				after = *d.request
			}
			if now := p.Custody().Revision; now != d.catalogue.Revision {
				revision = now
			}
			return d.entries, nil
		},
	})
	if err != nil {
		return store.ChangeRequest{}, err
	}
	if revision != 0 && o.Changed != nil {
		o.Changed(revision)
	}
	return after, refused
}

// at is the index that the next entry gets.
func (d *desk) at() uint64 { return d.index + uint64(len(d.entries)) }

// maxDetail bounds what an entry repeats of an error, in bytes: it may quote what a caller sent.
const maxDetail = 1000

// record adds an entry. Of the change it fills what is known of every one.
func (d *desk) record(event audit.Event, outcome, detail string, about audit.Change) {
	e := audit.Entry{
		Time: d.now, Event: event, Client: d.by.Client, Role: d.by.Role, Policy: d.by.Policy, Outcome: outcome, Change: &about,
		Detail: strings.ToValidUTF8(detail[:min(len(detail), maxDetail)], ""),
	}
	about.ID = d.change.ID
	if takes[d.change.Act] != "" { // or it is whatever a caller sent
		about.Act = string(d.change.Act)
	}
	if set := d.change.set(); setName.MatchString(set) {
		e.KeySet = set
	}
	d.entries = append(d.entries, e)
}

// refuse records a refusal. When it ended the request, its entry is the end.
func (d *desk) refuse(err error) {
	if d.request != nil && d.request.State.Over() && d.request.Ended == 0 {
		d.request.Ended, d.request.Detail = d.at(), err.Error()
	}
	d.record(audit.ChangeRefused, Reason(err), err.Error(), audit.Change{Officer: d.by.Client})
}

// end ends the request with the entry that comes next.
func (d *desk) end(state store.RequestState, detail string) {
	d.request.State, d.request.Detail, d.request.Ended = state, detail, d.at()
}

// keep replaces the catalogue.
func (d *desk) keep(next Catalogue) (about audit.Change, err error) { return keep(d.p, next) }

// standing refuses a request that cannot be decided on: one that is not there, is in none of the states, or has expired, which ends it.
func (d *desk) standing(states ...store.RequestState) error {
	switch {
	case d.request == nil:
		return ErrUnknown
	case !slices.Contains(states, d.request.State):
		return fmt.Errorf("%w: it is %s", ErrNotOpen, d.request.State)
	case !d.now.Before(d.change.Expires):
		d.request.State = store.RequestExpired
		return fmt.Errorf("%w: at %s", ErrExpired, d.change.Expires.Format(time.RFC3339))
	}
	return nil
}

// officer is the caller as an officer.
func (d *desk) officer() (Officer, error) { return d.decides(d.by.Client) }

// decides is an officer who may act now.
func (d *desk) decides(name string) (Officer, error) {
	officer, may := d.catalogue.Decides(name)
	if may {
		return officer, nil
	}
	if _, there := d.catalogue.Officer(name); there {
		return Officer{}, fmt.Errorf("%w that may act: the client of %s is gone, suspended, or of another role", ErrNotAnOfficer, name)
	}
	return Officer{}, fmt.Errorf("%w: %s", ErrNotAnOfficer, name)
}

// approvals counts the approvals that hold under the catalogue: by officers that may act, with the keys that they have and since they have
// them, other than the author, over the bytes as they are. Nothing that was counted before is believed.
func (d *desk) approvals() (n int) {
	seen := map[string]bool{d.change.Author: true}
	for _, a := range d.request.Approvals {
		officer, may := d.catalogue.Decides(a.Officer)
		if !may || seen[a.Officer] || !officer.gave(a) {
			continue
		}
		if _, err := VerifyApproval(d.request.Body, officer.Key, []byte(a.Signature)); err != nil {
			continue
		}
		seen[a.Officer] = true
		n++
	}
	return n
}

// gave reports whether an approval is of the officer as it is now. One from before its removal, or from before another key took the place of its
// key, does not come back with the name and the key.
func (o Officer) gave(a store.Approval) bool {
	return a.Officer == o.Name && a.Key == o.Key && !a.At.Before(o.Since)
}

// enough refuses a request that has too few approvals.
func (d *desk) enough() error {
	need, err := d.catalogue.QuorumFor(d.change)
	if err != nil {
		return err
	}
	if n := d.approvals(); n < need {
		return fmt.Errorf("%w: %d of %d", ErrNoQuorum, n, need)
	}
	return nil
}
