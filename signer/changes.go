package signer

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// ErrNoOffice: this signer's key sets are its configuration's, and no officers decide on them.
var ErrNoOffice = errors.New("no officers decide on this signer's keys: they are in its configuration")

// mayDecide asks the policy, and answers who the caller is to the office. A denial is recorded before it is returned.
func (s *Signer) mayDecide(ctx context.Context, caller policy.Caller, op policy.Operation) (custody.Caller, error) {
	rules := s.current.Load().policy
	grant, err := rules.Decide(policy.Request{Caller: caller, Operation: op, Context: policy.Context{Time: s.now().UTC()}})
	if err != nil {
		denied := audit.Entry{
			Time: s.now(), Event: audit.Event(op), Client: caller.Name(), Role: caller.Role(), Policy: rules.Digest(),
			Outcome: outcomeDenied, Detail: err.Error(),
		}
		if failed := s.Record(ctx, denied); failed != nil {
			return custody.Caller{}, failed
		}
		return custody.Caller{}, err
	}
	switch {
	case !grant.Allows(op, ""):
		return custody.Caller{}, errNoGrant
	case s.office == nil:
		return custody.Caller{}, ErrNoOffice
	}
	return custody.Caller{Client: caller.Name(), Role: caller.Role(), Policy: grant.Policy()}, nil
}

// ProposeChange asks the other officers for a change.
func (s *Signer) ProposeChange(ctx context.Context, caller policy.Caller, p custody.Proposal) (store.ChangeRequest, error) {
	by, err := s.mayDecide(ctx, caller, policy.ProposeChange)
	if err != nil {
		return store.ChangeRequest{}, err
	}
	return s.office.Propose(ctx, by, p)
}

// ApproveChange adds the caller's signature to a change.
func (s *Signer) ApproveChange(ctx context.Context, caller policy.Caller, id string, signature []byte) (store.ChangeRequest, error) {
	by, err := s.mayDecide(ctx, caller, policy.ApproveChange)
	if err != nil {
		return store.ChangeRequest{}, err
	}
	return s.office.Approve(ctx, by, id, signature)
}

// RejectChange ends a change by the caller's no.
func (s *Signer) RejectChange(ctx context.Context, caller policy.Caller, id, reason string) (store.ChangeRequest, error) {
	by, err := s.mayDecide(ctx, caller, policy.RejectChange)
	if err != nil {
		return store.ChangeRequest{}, err
	}
	return s.office.Reject(ctx, by, id, reason)
}

// CancelChange ends a change of the caller's own.
func (s *Signer) CancelChange(ctx context.Context, caller policy.Caller, id string) (store.ChangeRequest, error) {
	by, err := s.mayDecide(ctx, caller, policy.CancelChange)
	if err != nil {
		return store.ChangeRequest{}, err
	}
	return s.office.Cancel(ctx, by, id)
}

// Changes returns the change requests that f chooses.
func (s *Signer) Changes(ctx context.Context, caller policy.Caller, f store.RequestFilter) ([]store.ChangeRequest, error) {
	by, err := s.mayDecide(ctx, caller, policy.ListChanges)
	if err != nil {
		return nil, err
	}
	requests, err := s.office.Requests(ctx, f)
	if err != nil {
		return nil, err
	}
	return requests, s.shown(ctx, by, policy.ListChanges, fmt.Sprintf("%d changes", len(requests)))
}

// Change returns one change request.
func (s *Signer) Change(ctx context.Context, caller policy.Caller, id string) (store.ChangeRequest, error) {
	by, err := s.mayDecide(ctx, caller, policy.ReadChange)
	if err != nil {
		return store.ChangeRequest{}, err
	}
	request, _, err := s.office.Request(ctx, id)
	switch {
	case errors.Is(err, custody.ErrUnknown):
		return request, cmp.Or(s.looked(ctx, by, policy.ReadChange, outcomeNotFound, ""), err)
	case err != nil:
		return request, err
	}
	return request, s.shown(ctx, by, policy.ReadChange, "change "+request.ID)
}

// Officers returns the catalogue as it is now, for its officers and their quorum.
func (s *Signer) Officers(ctx context.Context, caller policy.Caller) (custody.Catalogue, error) {
	by, err := s.mayDecide(ctx, caller, policy.ListOfficers)
	if err != nil {
		return custody.Catalogue{}, err
	}
	catalogue, err := s.office.Catalogue(ctx)
	if err != nil {
		return custody.Catalogue{}, err
	}
	return catalogue, s.shown(ctx, by, policy.ListOfficers, fmt.Sprintf("revision %d", catalogue.Revision))
}

// shown records a look at what officers decide on, before its answer leaves.
func (s *Signer) shown(ctx context.Context, by custody.Caller, op policy.Operation, detail string) error {
	return s.looked(ctx, by, op, outcomeShown, detail)
}

func (s *Signer) looked(ctx context.Context, by custody.Caller, op policy.Operation, outcome, detail string) error {
	return s.Record(ctx, audit.Entry{
		Time: s.now(), Event: audit.Event(op), Client: by.Client, Role: by.Role, Policy: by.Policy, Outcome: outcome, Detail: detail,
	})
}

// ApprovalsNeeded is how many approvals a change request needs under the quorum of now; 0 when it is over or nobody may decide.
func (s *Signer) ApprovalsNeeded(ctx context.Context, r store.ChangeRequest) (int, error) {
	if s.office == nil || r.State.Over() || r.ID == "" {
		return 0, nil
	}
	change, err := custody.DecodeChange(r.Body)
	if err != nil {
		return 0, err
	}
	catalogue, err := s.office.Catalogue(ctx)
	if err != nil {
		return 0, err
	}
	n, err := catalogue.QuorumFor(change)
	if errors.Is(err, custody.ErrNoQuorum) {
		return 0, nil
	}
	return n, err
}
