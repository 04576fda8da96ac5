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

// inOffice does what an officer or auditor asks of the office by the policy of one revision: under another one nothing of it is recorded, and it is
// done again from its first line, as of any operation.
func inOffice[T any](ctx context.Context, s *Signer, caller policy.Caller, op policy.Operation, do func(view, custody.Caller) (T, error)) (T, error) {
	return withKeys(ctx, s, func(v view) (T, error) {
		var none T
		by, err := v.mayDecide(ctx, caller, op)
		switch {
		case err != nil:
			return none, err
		case s.office == nil:
			return none, ErrNoOffice
		}
		return do(v, by)
	})
}

// mayDecide asks the policy, and answers who the caller is to the office. A denial is recorded before it is returned.
func (s view) mayDecide(ctx context.Context, caller policy.Caller, op policy.Operation) (custody.Caller, error) {
	grant, err := s.keys.policy.Decide(policy.Request{Caller: caller, Operation: op, Context: policy.Context{Time: s.now().UTC()}})
	if err != nil {
		return custody.Caller{}, s.denial(ctx, caller, op, audit.Entry{}, err)
	}
	if !grant.Allows(op, "") {
		return custody.Caller{}, errNoGrant
	}
	return custody.Caller{Client: caller.Name(), Role: s.keys.policy.Role(caller), Policy: grant.Policy(), Revision: s.keys.revision}, nil
}

// ProposeChange asks the other officers for a change.
func (s *Signer) ProposeChange(ctx context.Context, caller policy.Caller, p custody.Proposal) (store.ChangeRequest, error) {
	return inOffice(ctx, s, caller, policy.ProposeChange, func(_ view, by custody.Caller) (store.ChangeRequest, error) {
		return s.office.Propose(ctx, by, p)
	})
}

// ApproveChange adds the caller's signature to a change.
func (s *Signer) ApproveChange(ctx context.Context, caller policy.Caller, id string, signature []byte) (store.ChangeRequest, error) {
	return inOffice(ctx, s, caller, policy.ApproveChange, func(_ view, by custody.Caller) (store.ChangeRequest, error) {
		return s.office.Approve(ctx, by, id, signature)
	})
}

// RejectChange ends a change by the caller's no.
func (s *Signer) RejectChange(ctx context.Context, caller policy.Caller, id, reason string) (store.ChangeRequest, error) {
	return inOffice(ctx, s, caller, policy.RejectChange, func(_ view, by custody.Caller) (store.ChangeRequest, error) {
		return s.office.Reject(ctx, by, id, reason)
	})
}

// CancelChange ends a change of the caller's own.
func (s *Signer) CancelChange(ctx context.Context, caller policy.Caller, id string) (store.ChangeRequest, error) {
	return inOffice(ctx, s, caller, policy.CancelChange, func(_ view, by custody.Caller) (store.ChangeRequest, error) {
		return s.office.Cancel(ctx, by, id)
	})
}

// Changes returns the change requests that f chooses.
func (s *Signer) Changes(ctx context.Context, caller policy.Caller, f store.RequestFilter) ([]store.ChangeRequest, error) {
	return inOffice(ctx, s, caller, policy.ListChanges, func(v view, by custody.Caller) ([]store.ChangeRequest, error) {
		requests, err := s.office.Requests(ctx, f)
		if err != nil {
			return nil, err
		}
		return requests, v.shown(ctx, by, policy.ListChanges, fmt.Sprintf("%d changes", len(requests)))
	})
}

// Change returns one change request.
func (s *Signer) Change(ctx context.Context, caller policy.Caller, id string) (store.ChangeRequest, error) {
	return inOffice(ctx, s, caller, policy.ReadChange, func(v view, by custody.Caller) (store.ChangeRequest, error) {
		request, _, err := s.office.Request(ctx, id)
		switch {
		case errors.Is(err, custody.ErrUnknown):
			return request, cmp.Or(v.sawChange(ctx, by, policy.ReadChange, outcomeNotFound, ""), err)
		case err != nil:
			return request, err
		}
		return request, v.shown(ctx, by, policy.ReadChange, "change "+request.ID)
	})
}

// Officers returns the catalogue as it is now, for its officers, their quorum, and the rules in force.
func (s *Signer) Officers(ctx context.Context, caller policy.Caller) (custody.Catalogue, error) {
	return inOffice(ctx, s, caller, policy.ListOfficers, func(v view, by custody.Caller) (custody.Catalogue, error) {
		catalogue, err := s.office.Catalogue(ctx)
		if err != nil {
			return custody.Catalogue{}, err
		}
		return catalogue, v.shown(ctx, by, policy.ListOfficers, fmt.Sprintf("revision %d", catalogue.Revision))
	})
}

// shown records a look at what officers decide on, before its answer leaves.
func (s view) shown(ctx context.Context, by custody.Caller, op policy.Operation, detail string) error {
	return s.sawChange(ctx, by, op, outcomeShown, detail)
}

func (s view) sawChange(ctx context.Context, by custody.Caller, op policy.Operation, outcome, detail string) error {
	return s.record(ctx, audit.Entry{
		Event: audit.Event(op), Client: by.Client, Role: by.Role, Policy: by.Policy, Outcome: outcome, Detail: detail,
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
