package custody

import (
	"context"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// Approve adds an officer's signature to a change request. The one that makes the quorum has the change applied: in the same transaction where
// the catalogue alone changes; after the work in the token, before Approve returns, where there is some (ErrToken: it goes on later,
// see Resume); and of a change that a ceremony executes the request is APPROVED from then on.
func (o *Office) Approve(ctx context.Context, by Caller, id string, signature []byte) (store.ChangeRequest, error) {
	purse, reset, unfit := o.purseOf(ctx, id)
	if unfit != nil && Reason(unfit) == "" {
		return store.ChangeRequest{}, unfit
	}
	elsewhere, err := o.signedElsewhere(ctx, by, id, signature)
	if err != nil {
		return store.ChangeRequest{}, err
	}
	o.begin(id)
	defer o.done(id)
	request, err := o.decide(ctx, by, id, purse, func(d *desk) error {
		if err := d.standing(store.RequestOpen); err != nil {
			return err
		}
		officer, err := d.officer()
		if err != nil {
			return err
		}
		canonical, err := d.signed(officer, signature, elsewhere)
		if err != nil {
			return err
		}
		if err := d.allowed(); err != nil {
			return err
		}
		if unfit != nil {
			return unfit // another node may be able to
		}
		d.request.Approvals = append(d.request.Approvals, store.Approval{
			Officer: officer.Name, Key: officer.Key, Signature: string(canonical), At: wholeSecond(d.now),
		})
		about := audit.Change{Bytes: string(d.request.Body), Officer: officer.Name, OfficerKey: officer.Key, Signature: string(canonical)}
		return o.afterApproval(d, about, reset)
	})
	if err == nil && request.State == store.RequestExecuting {
		by.Revision = 0 // what was approved is worked at under whatever comes
		return o.work(ctx, by, request)
	}
	return request, err
}

// signed refuses a signature that is not this officer's over this change, and one that it gave already.
func (d *desk) signed(officer Officer, signature []byte, elsewhere string) ([]byte, error) {
	if officer.Name == d.change.Author {
		return nil, fmt.Errorf("%w: %s", ErrOwnChange, officer.Name)
	}
	canonical, err := VerifyApproval(d.request.Body, officer.Key, signature)
	if err != nil && elsewhere != "" {
		return nil, fmt.Errorf("%w: %s", ErrWrongChange, elsewhere)
	}
	if err != nil {
		return nil, err
	}
	for _, a := range d.request.Approvals {
		if officer.gave(a) {
			return nil, fmt.Errorf("%w: %s", ErrApprovedTwice, officer.Name)
		}
	}
	return canonical, nil
}

// allowed refuses a change that the catalogue does not allow any more, or whose author may not act any more, and ends its request; one
// that must wait stays open.
func (d *desk) allowed() error {
	err := d.catalogue.Allows(d.change, d.now)
	if _, author := d.decides(d.change.Author); author != nil {
		err = fmt.Errorf("its author: %w", author)
	}
	if err != nil && !errors.Is(err, ErrBusy) {
		d.request.State = store.RequestFailed
	}
	return err
}

// afterApproval records the approval and, when it makes the quorum, does what the act needs next.
func (o *Office) afterApproval(d *desk, about audit.Change, reset func(*store.Purse) error) error {
	need, err := d.catalogue.QuorumFor(d.change)
	if err != nil {
		return err
	}
	n := d.approvals()
	tally := fmt.Sprintf("%d of %d approvals", n, need)
	if n < need {
		d.record(audit.ChangeApproved, string(store.RequestOpen), tally, about)
		return nil
	}
	switch act := d.change.Act; {
	case NeedsCeremony(act):
		d.request.State = store.RequestApproved
	case NeedsToken(act):
		next, err := d.catalogue.Begin(d.change, d.now)
		if err != nil {
			return err
		}
		made, err := d.keep(next)
		if err != nil {
			return err
		}
		about.Revision, about.Catalogue = made.Revision, made.Catalogue
		d.request.State, d.request.Executor, d.request.Attempt, d.request.ClaimedAt = store.RequestExecuting, o.Node, 1, wholeSecond(d.now)
	}
	d.record(audit.ChangeApproved, string(d.request.State), tally, about)
	if d.request.State != store.RequestOpen {
		return nil
	}
	return o.apply(d, Made{}, "", reset)
}

// apply puts what a change makes of the catalogue in its place, and ends the request. A refusal ends it too.
func (o *Office) apply(d *desk, made Made, detail string, reset func(*store.Purse) error) error {
	next, err := d.catalogue.Apply(d.change, made, d.now)
	if err == nil {
		err = o.check(next)
	}
	if err == nil && reset != nil {
		if err = reset(d.p); err != nil {
			err = fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if err != nil {
		if !errors.Is(err, ErrBusy) {
			d.request.State = store.RequestFailed
		}
		return err
	}
	about, err := d.keep(next)
	if err != nil {
		return err
	}
	d.end(store.RequestApplied, detail)
	d.record(audit.ChangeApplied, string(store.RequestApplied), detail, about)
	return nil
}

// purseOf is the purse that a change is about, and how it is reset; of any other change there is none. That it cannot be reset here is
// ErrInvalid.
func (o *Office) purseOf(ctx context.Context, id string) (key store.PurseKey, reset func(*store.Purse) error, err error) {
	request, change, err := o.Request(ctx, id)
	if errors.Is(err, ErrUnknown) || err == nil && (change.Act != policy.ResetPurse || request.State.Over()) {
		return key, nil, nil
	}
	if err != nil {
		return key, nil, err
	}
	if o.ResetPurse == nil {
		return key, nil, invalid("%s: this service cannot do it", change.Act)
	}
	if key, reset, err = o.ResetPurse(*change.Purse); err != nil {
		return store.PurseKey{}, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return key, reset, nil
}

// mostOthers bounds the other changes that a signature is held against, to say which one it is over.
const mostOthers = 200

// signedElsewhere is the id of another change that the signature is over, where it is not over this one. It only names the mistake:
// what counts is decided in the transaction.
func (o *Office) signedElsewhere(ctx context.Context, by Caller, id string, signature []byte) (string, error) {
	c, err := o.Catalogue(ctx)
	if err != nil {
		return "", err
	}
	officer, there := c.Officer(by.Client)
	if !there {
		return "", nil
	}
	request, _, err := o.Request(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if _, err := VerifyApproval(request.Body, officer.Key, signature); err == nil {
		return "", nil
	}
	others, err := o.Store.ChangeRequests(ctx, store.RequestFilter{After: before(request.AuditIndex, mostOthers), Limit: mostOthers})
	for _, other := range others {
		if _, err := VerifyApproval(other.Body, officer.Key, signature); err == nil {
			return other.ID, nil
		}
	}
	return "", err
}

// before is the index n entries before; a change's neighbours are the ones that it is confused with.
func before(index, n uint64) uint64 { return index - min(index, n) }

// Reject ends a change request: an officer other than its author says no. One no is enough, so that nobody's doubt is outvoted; but no
// officer stops the removal or the replacement of itself, or of its client.
func (o *Office) Reject(ctx context.Context, by Caller, id, reason string) (store.ChangeRequest, error) {
	return o.decide(ctx, by, id, store.PurseKey{}, func(d *desk) error {
		if err := d.standing(store.RequestOpen, store.RequestApproved); err != nil {
			return err
		}
		officer, err := d.officer()
		if err != nil {
			return err
		}
		switch {
		case officer.Name == d.change.Author:
			return fmt.Errorf("%w: its author cancels it", ErrOwnChange)
		case d.change.Officer != nil && d.change.Officer.Name == officer.Name, d.change.Client != nil && d.change.Client.Name == officer.Name:
			return ErrOwnRemoval
		case !isReason(reason):
			return fmt.Errorf("%w: reason: expected 1 to %d bytes of UTF-8", ErrMalformed, maxReason)
		}
		d.end(store.RequestRejected, officer.Name+": "+reason)
		d.record(audit.ChangeRejected, string(store.RequestRejected), reason, audit.Change{Officer: officer.Name})
		return nil
	})
}

// Cancel ends a change request by its author's own will.
func (o *Office) Cancel(ctx context.Context, by Caller, id string) (store.ChangeRequest, error) {
	return o.decide(ctx, by, id, store.PurseKey{}, func(d *desk) error {
		if err := d.standing(store.RequestOpen, store.RequestApproved); err != nil {
			return err
		}
		if by.Client != d.change.Author {
			return fmt.Errorf("%w: %s", ErrNotAuthor, d.change.Author)
		}
		d.end(store.RequestCancelled, "")
		d.record(audit.ChangeCancelled, string(store.RequestCancelled), "", audit.Change{Officer: by.Client})
		return nil
	})
}

// Ready returns a change that is APPROVED and can be executed now, for the ceremony that is about to: its quorum is there, it has not
// expired, and what it rests on is as it was. A refusal is not recorded: nothing was asked for yet.
func (o *Office) Ready(ctx context.Context, id string) (Change, Catalogue, error) {
	request, change, err := o.Request(ctx, id)
	if err != nil {
		return Change{}, Catalogue{}, err
	}
	c, err := o.Catalogue(ctx)
	if err != nil {
		return Change{}, Catalogue{}, err
	}
	d := &desk{now: o.Now(), catalogue: c, request: &request, change: change}
	if err := errors.Join(d.standing(store.RequestApproved), d.enough(), c.Allows(change, d.now)); err != nil {
		return Change{}, Catalogue{}, err
	}
	return change, c, nil
}

// Complete applies an APPROVED change with what its ceremony made. A refusal ends the request, unless the key set is busy; the ceremony then
// destroys what it made. by names who held the ceremony; it is recorded, and decides nothing: the approvals do.
func (o *Office) Complete(ctx context.Context, by Caller, id string, made Made, detail string) (store.ChangeRequest, error) {
	return o.decide(ctx, by, id, store.PurseKey{}, func(d *desk) error {
		if err := d.standing(store.RequestApproved); err != nil {
			return err
		}
		if err := d.enough(); err != nil {
			d.request.State = store.RequestOpen // an officer was removed since: others may approve
			return err
		}
		if err := d.allowed(); err != nil {
			return err
		}
		return o.apply(d, made, detail, nil)
	})
}
