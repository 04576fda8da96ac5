package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrRevision: the catalogue was changed since the change was decided on. Nothing of the change is kept.
var ErrRevision = errors.New("the catalogue has another revision")

// Custody is the catalogue as one document (custody.Catalogue encodes it). The zero Custody is that of a store without officers.
type Custody struct {
	Revision uint64 // rises by one with each document
	Document []byte
}

// Custody returns the catalogue for a decision to look at and to replace, with the next revision. It panics when the Change did
// not name it.
func (p *Purse) Custody() *Custody {
	if !p.named.Custody {
		panic("store: a decision looked at the catalogue, that its change did not name")
	}
	return p.custody
}

// ChangeRequest is one change request and what became of it. Everything above State is fixed when it is made.
type ChangeRequest struct {
	ID         string // as its body says
	Body       []byte // exactly what officers sign
	Act        string
	Author     string
	ExpiresAt  time.Time
	AuditIndex uint64 // of its proposal's entry

	State     RequestState
	Approvals []Approval // in the order of commit; one that is there stays as it was made
	Executor  string     // the node that works at it, and since when
	Attempt   int
	ClaimedAt time.Time
	Detail    string // how it ended, where the state does not say it
	Ended     uint64 // audit index of the entry that ended it; 0 while it is not over
}

// Approval is one officer's signature over a request's body.
type Approval struct {
	Officer   string    `json:"officer"`
	Key       string    `json:"key"`       // the officer's SSH key when it approved
	Signature string    `json:"signature"` // armoured
	At        time.Time `json:"at"`
}

// RequestState is where a change request stands. The zero value is invalid.
type RequestState string

// The states of a change request.
const (
	RequestOpen      RequestState = "OPEN"      // collects approvals
	RequestApproved  RequestState = "APPROVED"  // has its quorum and waits for its ceremony
	RequestExecuting RequestState = "EXECUTING" // a node is at work in the token
	RequestApplied   RequestState = "APPLIED"
	RequestRejected  RequestState = "REJECTED"
	RequestCancelled RequestState = "CANCELLED"
	RequestExpired   RequestState = "EXPIRED"
	RequestFailed    RequestState = "FAILED" // could not be applied any more
)

// Over reports whether a request in this state never changes again.
func (s RequestState) Over() bool {
	return !slices.Contains([]RequestState{RequestOpen, RequestApproved, RequestExecuting}, s)
}

// RequestFilter chooses change requests for ChangeRequests. Empty fields choose all.
type RequestFilter struct {
	State    RequestState
	OpenOnly bool   // those that are not over
	After    uint64 // audit index: requests with a greater one, in its order
	Limit    int
}

// Request returns the change request that the Change named, nil when there is none. It panics when it named none.
func (p *Purse) Request() *ChangeRequest {
	if p.named.Request == "" {
		panic("store: a decision looked at a change request that its change did not name")
	}
	return p.request
}

// AddRequest makes the change request that the Change named. It panics when it is there, and when r is another one.
func (p *Purse) AddRequest(r *ChangeRequest) {
	if p.Request() != nil {
		panic("store: a decision made one change request twice")
	}
	if r.ID != p.named.Request {
		panic("store: a decision made a change request that its change did not name")
	}
	p.request = r
}

func (r *ChangeRequest) copied() *ChangeRequest {
	if r == nil {
		return nil
	}
	c := *r
	c.Body, c.Approvals = bytes.Clone(r.Body), slices.Clone(r.Approvals)
	return &c
}

// restore gives back everything that is fixed when a request is made, the approvals that it had, and its end once it has one.
func (r *ChangeRequest) restore(made *ChangeRequest) {
	if made.State.Over() {
		*r = *made.copied()
		return
	}
	r.ID, r.Body, r.Act, r.Author, r.ExpiresAt, r.AuditIndex = made.ID, made.Body, made.Act, made.Author, made.ExpiresAt, made.AuditIndex
	had := len(made.Approvals)
	r.Approvals = append(slices.Clone(made.Approvals), r.Approvals[min(had, len(r.Approvals)):]...)
}

// check refuses a request that was made or ended without an entry of its own change, first being that of its first entry.
func (r *ChangeRequest) check(was *ChangeRequest, first uint64, entries int) error {
	end := first + uint64(entries)
	switch {
	case r.State == "":
		return errors.New("bug: a change request has no state")
	case !isText(string(r.Body)) || !isText(r.Detail):
		return errors.New("bug: a change request's body or detail is no text")
	case was == nil && (r.AuditIndex < first || r.AuditIndex >= end):
		return fmt.Errorf("bug: a new change request has audit index %d, expected %d to %d", r.AuditIndex, first, end-1)
	case r.State.Over() != (r.Ended != 0):
		return fmt.Errorf("bug: a change request that is %s ended with entry %d", r.State, r.Ended)
	case r.Ended != 0 && (was == nil || !was.State.Over()) && (r.Ended < first || r.Ended >= end):
		return fmt.Errorf("bug: a change request ended with entry %d, expected %d to %d", r.Ended, first, end-1)
	}
	return nil
}

func (r *ChangeRequest) same(was *ChangeRequest) bool {
	return r.State == was.State && slices.Equal(r.Approvals, was.Approvals) && r.Executor == was.Executor && r.Attempt == was.Attempt &&
		r.ClaimedAt.Equal(was.ClaimedAt) && r.Detail == was.Detail && r.Ended == was.Ended
}

// heldCustody is the catalogue of a group; its revision is always there, its document where a change named it.
type heldCustody struct {
	revisionRead, revision uint64
	named                  bool
	document               []byte
}

// check refuses a catalogue that was replaced without an entry, or by anything but the next revision.
// Of a store that has none yet a restore brings one of any revision.
func (h *heldCustody) check(now *Custody, entries int, restores bool) error {
	switch same := bytes.Equal(now.Document, h.document); {
	case same && now.Revision == h.revision:
		return nil
	case restores && h.revision == 0 && now.Revision != 0 && len(now.Document) != 0 && entries != 0:
		return nil
	case len(now.Document) == 0 || now.Revision != h.revision+1:
		return fmt.Errorf("bug: the catalogue was replaced by revision %d with %d bytes, expected revision %d",
			now.Revision, len(now.Document), h.revision+1)
	case entries == 0:
		return errors.New("bug: the catalogue was replaced without an entry")
	}
	return nil
}
