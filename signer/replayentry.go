package signer

import (
	"context"
	"crypto/subtle"
	"errors"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// finding is a verdict with its reason.
type finding struct {
	verdict Verdict
	reason  string
}

// What differs, in the answers of a replay.
const (
	differsSealed      = "ENTRY"       // it is not the one that was sealed
	differsInputs      = "INPUTS"      // they cannot be read as what they are recorded to be
	differsOutcome     = "OUTCOME"     // none that the event can have
	differsKey         = "KEY"         // the version or check value is not that of the key
	differsTransaction = "TRANSACTION" // its id is not that of its inputs, or the record does not have its beginning
	differsMAC1        = "MAC1"
	differsMAC2        = "MAC2"
	differsMAC3        = "MAC3"
	differsTAC         = "TAC"
	differsCommand     = "COMMAND"
	differsCryptogram  = "CRYPTOGRAM"
)

// Why an entry cannot be replayed.
const (
	blindPIN        = "PIN"            // the command carries a PIN, which is not in the record
	blindKeyWrite   = "KEY_WRITE"      // the command is the card's key, which is not in the record
	blindSession    = "READER_SESSION" // its proofs are of a session's keys
	blindFrame      = "READER_FRAME"   // its data is not in the record
	blindBatch      = "BATCH"          // the items that were verified are in the batch's digest alone
	blindLocked     = "CARD_LOCKED"    // the card was locked, or its terminal or client refused: the record does not say what its MAC was
	blindSettlement = "SETTLEMENT"     // it was over: the record does not say what the card's MAC was
	blindNoMore     = "NO_MORE_VALUES" // the value was refused, right or wrong
	blindKey        = "KEY_SUSPENDED"  // the key may not verify
	blindKeySet     = "KEY_SET"        // the caller may not use it, or the signer does not have it
	blindEvent      = "EVENT"          // a later signer's
)

func differs(what string) finding { return finding{Different, what} }
func blind(why string) finding    { return finding{NotReplayable, why} }

var (
	equal = finding{verdict: Equal}
	noMAC = finding{verdict: NoMAC}
)

// comparison compares an entry of a key set. It uses the token to verify what is recorded: what the keys make does not come out of it.
// Its error is of the token or the store.
type comparison func(s view, ctx context.Context, set *keySet, e audit.Entry) (finding, error)

func about(f finding) comparison {
	return func(view, context.Context, *keySet, audit.Entry) (finding, error) { return f, nil }
}

// comparisons is how each event is compared; every operation of the policy and every event of package audit is here.
var comparisons map[audit.Event]comparison

func init() {
	comparisons = map[audit.Event]comparison{
		audit.Event(policy.AuthorizeLoad):      compareAuthorize(loading),
		audit.Event(policy.AuthorizeUnload):    compareAuthorize(unloading),
		audit.Event(policy.AuthorizeOverdraft): compareAuthorize(overdrawing),
		audit.Event(policy.ConfirmLoad):        compareConfirm(loading),
		audit.Event(policy.ConfirmUnload):      compareConfirm(unloading),
		audit.Event(policy.ConfirmOverdraft):   compareConfirm(overdrawing),
		audit.Event(policy.SettleLoad):         view.compareSettle,
		audit.Event(policy.VerifyTac):          view.compareTAC,
		audit.Event(policy.VerifyTacs):         view.compareTAC,
		audit.Event(policy.SignCommand):        view.compareCommand,
		audit.Event(policy.AuthenticateCard):   view.compareAuthentication,
		audit.Event(policy.BeginPurchase):      view.compareSale,
		audit.Event(policy.CompletePurchase):   view.compareReceipt,
		audit.Event(policy.PersonaliseCard):    view.comparePersonalisation,
		audit.Event(policy.PersonalisePSAM):    view.comparePersonalisation,
		audit.Event(policy.Authenticate):       about(blind(blindSession)),
		audit.Event(policy.Seal):               about(blind(blindFrame)),
		audit.Event(policy.Open):               about(blind(blindFrame)),
	}
	for _, op := range []policy.Operation{
		policy.BeginSettlement, policy.GetTransaction, policy.ListTransactions, policy.UnlockCard, policy.ListKeySets, policy.Challenge,
		policy.Replay,
	} {
		comparisons[audit.Event(op)] = about(noMAC)
	}
}

// eventsWithoutKeySet are about no MAC of a key set, or raised by an entry that has its own.
var eventsWithoutKeySet = withoutKeySet(
	[]audit.Event{
		identifyEvent, audit.Started, audit.KeyExposure, audit.UnexplainedCounter, audit.Contradiction, audit.CardLocked, audit.KeyDiffers,
		audit.LimitAlarm, audit.MAC1Failures, audit.MAC1Refused, audit.CounterConflicts, audit.TACFailures,
		audit.CheckpointKey, audit.SealingLate, audit.SealingRefused, audit.Pruned, audit.WitnessConflict, audit.WitnessLate, audit.CertificatesRefused, audit.RevocationListLate,
		audit.Restored, audit.BackupMade, audit.OfficersRegistered, audit.RulesRegistered, audit.RulesUnusable, audit.ChangeProposed, audit.ChangeApproved, audit.ChangeRejected,
		audit.ChangeCancelled, audit.ChangeClaimed, audit.ChangeApplied, audit.ChangeRefused,
	},
	policy.ListKeySets, policy.Replay, policy.ListEntries, policy.ReadEntry, policy.ProveEntry, policy.LatestCheckpoint,
	policy.ExportEntries, policy.ProposeChange, policy.ApproveChange, policy.RejectChange, policy.CancelChange, policy.ListChanges,
	policy.ReadChange, policy.ListOfficers,
)

func withoutKeySet(events []audit.Event, operations ...policy.Operation) map[audit.Event]bool {
	all := make(map[audit.Event]bool, len(events)+len(operations))
	for _, event := range events {
		all[event] = true
	}
	for _, op := range operations {
		all[audit.Event(op)] = true
	}
	return all
}

// compare judges an entry, if the caller may use its key set.
func (s view) compare(ctx context.Context, grants map[string]policy.Grant, e audit.Entry) (finding, error) {
	if eventsWithoutKeySet[e.Event] || e.Outcome == outcomeDenied {
		return noMAC, nil
	}
	one := comparisons[e.Event]
	switch {
	case one == nil:
		return blind(blindEvent), nil
	case e.Batch != nil:
		return blind(blindBatch), nil
	case e.Outcome == string(ledger.KeyNotActive), e.Outcome == outcomeInvalid, e.Outcome == outcomeNotFound, e.Outcome == outcomeBoundary:
		return noMAC, nil // refused before any MAC was looked at
	}
	set := s.keys.sets[e.KeySet]
	if set == nil || !grants[e.KeySet].Allows(policy.Replay, set.Name) {
		return blind(blindKeySet), nil
	}
	return one(s, ctx, set, e)
}

// recordedKey finds the key that an entry names. ok is false with what that comes to when it may not be used, or is another.
func (s *keySet) recordedKey(recorded *audit.Key, kind keyderive.Kind, number int) (key Version, f finding, ok bool) {
	if recorded == nil || recorded.Set != s.Name || recorded.Kind != kind.String() || recorded.Version != number {
		return key, differs(differsKey), false
	}
	key = s.version(kind, number)
	switch {
	case key.Number == 0 || key.State == custody.Destroyed || key.Key == nil:
		return key, finding{KeyGone, recorded.String()}, false
	case key.KCV.String() != recorded.KCV:
		return key, differs(differsKey), false
	case !key.For(policy.Replay).Verifies():
		return key, blind(blindKey), false
	}
	return key, finding{}, true
}

// judgedAs compares what the token said of a MAC with what the record says of it. Other errors than a mismatch are the token's.
func judgedAs(err error, right bool, what string) (finding, error) {
	if err != nil && !errors.Is(err, keyderive.ErrMismatch) {
		return finding{}, err
	}
	if (err == nil) != right {
		return differs(what), nil
	}
	return equal, nil
}

// sameText compares in constant time: one of the two may be what the keys make, and not be what was recorded.
func sameText(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
