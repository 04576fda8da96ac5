package custody

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// Work in the token.
//
//	approve   one transaction: EXECUTING, with executor and attempt; the key set is held; labels and ids follow from the change
//	work      the token makes, or destroys and looks again
//	finish    one transaction: the catalogue's next revision, the entry, APPLIED; or, by a claim that is newer, nothing at all
//
// Whoever goes on after a power cut raises the attempt, so that the work before it can finish nothing any more, and begins from the start: what has
// the ids of earlier attempts in the token was never in the catalogue, and is destroyed; what is to be destroyed is destroyed once more. A
// claim that was taken over, and does not know it yet, destroys only what has its own ids.

// Bounds of work in the token.
const (
	workLimit  = 5 * time.Minute
	staleAfter = 2 * workLimit // another node's claim: its work is over by then, whatever became of it
	mostTries  = 3             // of making a key whose check value another has, by chance
)

// backupLabel is the start of a backup key's label in the token.
const backupLabel = "pursekeeper/backup/"

// errClaimed is that a newer claim goes on with the work.
var errClaimed = errors.New("another claim goes on with the change")

// work does a claimed change's work in the token and finishes it. It outlives its caller.
func (o *Office) work(ctx context.Context, by Caller, request store.ChangeRequest) (store.ChangeRequest, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workLimit)
	defer cancel()
	change, err := DecodeChange(request.Body)
	if err != nil {
		return request, err
	}
	c, err := o.Catalogue(ctx)
	if err != nil {
		return request, err
	}
	for try := 1; ; try++ {
		made, detail, err := o.inToken(ctx, c, change, request.Attempt)
		if err != nil && !isFinal(err) {
			return request, fmt.Errorf("%w; it goes on by itself: %w", ErrToken, err)
		}
		if err != nil {
			return o.giveUp(ctx, by, request, c, change, err)
		}
		after, err := o.finish(ctx, by, request, made, detail)
		switch {
		case err == nil:
			return after, nil
		case Reason(err) == "":
			return request, err // not known whether it is durable: the next claim finds out
		case errors.Is(err, ErrSameKey) && try < mostTries:
			if err := o.abandon(ctx, c, change, request.Attempt, request.Attempt); err != nil {
				return request, fmt.Errorf("%w; it goes on by itself: %w", ErrToken, err)
			}
		default:
			return o.giveUp(ctx, by, request, c, change, err)
		}
	}
}

// begin and done count the calls that may be at work on a change, so that Resume leaves it to them.
func (o *Office) begin(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.working[id]++
}

func (o *Office) done(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.working[id]--; o.working[id] == 0 {
		delete(o.working, id)
	}
}

// isFinal reports whether the token will never do it, so that waiting for it is of no use.
func isFinal(err error) bool {
	for _, final := range []error{hsm.ErrExists, hsm.ErrKCVMismatch, hsm.ErrAttributes, hsm.ErrAmbiguous, hsm.ErrNoBackup, ErrInvalid} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// inToken does the act's work in the token, from the start.
func (o *Office) inToken(ctx context.Context, c Catalogue, change Change, attempt int) (made Made, detail string, err error) {
	switch change.Act {
	case policy.CreateKey:
		if err := o.abandon(ctx, c, change, 1, attempt); err != nil {
			return made, "", err
		}
		made.Attempt = attempt
		made.Keys, err = o.makeAll(ctx, c, change, attempt)
		return made, "made in the token", err
	case policy.DestroyKey:
		for _, k := range change.Keys.Keys {
			label := c.KeySet(change.Keys.Set).Key(k.Name).Label
			v, err := kcv.Parse(k.KCV)
			if err != nil {
				return made, "", err
			}
			if err := o.Token.DestroyMaster(ctx, label, v); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
				return made, "", err
			}
		}
		return made, "the token was looked at again: none of them is there", nil
	case policy.DestroyTransport:
		key := c.Transport(change.Transport.Name)
		if key == nil { // nothing holds a transport key: another change that destroys it was approved beside this one
			return made, "", invalid("%w: transport key %s is gone", ErrBaseChanged, change.Transport.Name)
		}
		if err := o.DestroyTransport(ctx, *key); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
			return made, "", err
		}
		return made, "the token was looked at again: it is not there", nil
	}
	return made, "", invalid("%s has no work in the token", change.Act)
}

// abandon destroys what attempts at the change made. It has their ids; nothing else has.
func (o *Office) abandon(ctx context.Context, c Catalogue, change Change, first, last int) error {
	if change.Act != policy.CreateKey {
		return nil
	}
	for _, k := range change.Keys.Keys {
		for attempt := first; attempt <= last; attempt++ {
			spec, err := o.spec(c, change, k, attempt)
			if err != nil {
				return err
			}
			if err := o.Token.AbandonMaster(ctx, spec.Label, spec.ID); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
				return err
			}
		}
	}
	return nil
}

func (o *Office) makeAll(ctx context.Context, c Catalogue, change Change, attempt int) (keys []MadeKey, err error) {
	under := hsm.WithoutBackup()
	if !change.Keys.WithoutBackup {
		if under, err = backupOf(c.Backup); err != nil {
			return nil, err
		}
	}
	for _, k := range change.Keys.Keys {
		spec, err := o.spec(c, change, k, attempt)
		if err != nil {
			return nil, err
		}
		made, wrapped, err := o.Token.GenerateMaster(ctx, spec, under)
		if err != nil {
			return nil, err
		}
		keys = append(keys, MadeKey{
			Set: change.Keys.Set, Name: k.Name, KCV: CheckValueOf(spec.Algorithm, made.KCV), Label: spec.Label, ID: spec.ID.String(),
			Wrapped: hex.EncodeToString(wrapped),
		})
	}
	return keys, nil
}

// backupOf names the catalogue's backup key to the token.
func backupOf(b *Backup) (hsm.Backup, error) {
	if b == nil {
		return hsm.Backup{}, hsm.ErrNoBackup
	}
	v, err := kcv.Parse(b.KCV.Value)
	if err != nil {
		return hsm.Backup{}, fmt.Errorf("backup key: %w", err)
	}
	return hsm.BackupUnder(strings.TrimPrefix(b.Label, backupLabel), v), nil
}

// spec is how the token makes a key of a change.
func (o *Office) spec(c Catalogue, change Change, k KeyChange, attempt int) (hsm.KeySpec, error) {
	set := c.KeySet(change.Keys.Set)
	levels, err := o.IssuerLevels(set.Definition)
	if err != nil {
		return hsm.KeySpec{}, fmt.Errorf("%w: key set %s: %w", ErrInvalid, set.Name, err)
	}
	spec := hsm.KeySpec{
		Label: Label(set.Name, k.Name), Kind: k.Kind, Algorithm: set.Algorithm, Boundary: k.Boundary, IssuerLevels: levels,
	}
	id, err := hex.DecodeString(AttemptID(change.ID, spec.Label, attempt))
	copy(spec.ID[:], id)
	return spec, err
}

// finish commits what the token did, unless a newer claim goes on with it.
func (o *Office) finish(ctx context.Context, by Caller, claimed store.ChangeRequest, made Made, detail string) (store.ChangeRequest, error) {
	return o.decide(ctx, by, claimed.ID, store.PurseKey{}, func(d *desk) error {
		if err := d.claimed(claimed); err != nil {
			return err
		}
		err := o.apply(d, made, detail, nil)
		if d.request.State == store.RequestFailed {
			d.request.State = store.RequestExecuting // until what was made is destroyed
		}
		return err
	})
}

func (d *desk) claimed(claim store.ChangeRequest) error {
	if d.request == nil || d.request.State != store.RequestExecuting || d.request.Executor != claim.Executor || d.request.Attempt != claim.Attempt {
		return errClaimed
	}
	return nil
}

// giveUp destroys what was made, and ends the request as failed.
func (o *Office) giveUp(ctx context.Context, by Caller, claimed store.ChangeRequest, c Catalogue, change Change, why error) (store.ChangeRequest, error) {
	now, err := o.Store.ChangeRequest(ctx, claimed.ID)
	if err == nil {
		err = (&desk{request: &now}).claimed(claimed)
	}
	if err != nil {
		return claimed, errors.Join(why, err)
	}
	if err := o.abandon(ctx, c, change, claimed.Attempt, claimed.Attempt); err != nil {
		return claimed, fmt.Errorf("%w; it goes on by itself: %w", ErrToken, errors.Join(why, err))
	}
	if Reason(why) == "" {
		why = fmt.Errorf("%w: %w", ErrToken, why)
	}
	return o.decide(ctx, by, claimed.ID, store.PurseKey{}, func(d *desk) error {
		if err := d.claimed(claimed); err != nil {
			return err
		}
		if _, err := d.keep(d.catalogue.End(d.change)); err != nil {
			return err
		}
		d.request.State = store.RequestFailed
		return why
	})
}

// openPage is how many open requests Resume reads at once. It looks at all of them: nobody's proposals stand before the work.
const openPage = 100

// Resume goes on with work in the token that was interrupted: by this node, or by another whose claim is stale; and it ends requests that have
// expired. It is called when the service starts and again from time to time, and answers what could not be finished yet. It never waits
// for work that goes on.
func (o *Office) Resume(ctx context.Context) error {
	var left error
	for after := uint64(0); ; {
		open, err := o.Store.ChangeRequests(ctx, store.RequestFilter{OpenOnly: true, After: after, Limit: openPage})
		if err != nil {
			return errors.Join(left, err)
		}
		for _, request := range open {
			left = errors.Join(left, o.resume(ctx, request))
			after = request.AuditIndex
		}
		if len(open) < openPage {
			return left
		}
	}
}

// resume does what is due of one request that is not over.
func (o *Office) resume(ctx context.Context, request store.ChangeRequest) error {
	by := Caller{Client: o.Node}
	switch {
	case request.State != store.RequestExecuting && !o.Now().Before(request.ExpiresAt):
		_, err := o.decide(ctx, by, request.ID, store.PurseKey{}, func(d *desk) error {
			return d.standing(store.RequestOpen, store.RequestApproved)
		})
		if errors.Is(err, ErrExpired) || errors.Is(err, ErrNotOpen) {
			return nil
		}
		return err
	case request.State == store.RequestExecuting && o.mayClaim(request):
		return o.goOn(ctx, by, request)
	}
	return nil
}

// mayClaim reports whether a claim is this node's, and not being worked at, or stale.
func (o *Office) mayClaim(r store.ChangeRequest) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.working[r.ID] == 0 && (r.Executor == o.Node || o.Now().Sub(r.ClaimedAt) > staleAfter)
}

// goOn claims a change anew and works at it.
func (o *Office) goOn(ctx context.Context, by Caller, request store.ChangeRequest) error {
	o.begin(request.ID)
	defer o.done(request.ID)
	claimed, err := o.decide(ctx, by, request.ID, store.PurseKey{}, func(d *desk) error {
		if err := d.claimed(request); err != nil {
			return err
		}
		d.request.Executor, d.request.ClaimedAt = o.Node, wholeSecond(d.now)
		d.request.Attempt++
		d.record(audit.ChangeClaimed, string(store.RequestExecuting), fmt.Sprintf("attempt %d", d.request.Attempt), audit.Change{})
		return nil
	})
	if err == nil {
		_, err = o.work(ctx, by, claimed)
	}
	if errors.Is(err, errClaimed) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("change %s: %w", request.ID, err)
	}
	return nil
}
