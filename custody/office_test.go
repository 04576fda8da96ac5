package custody

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// A change by two officers: proposed, approved, applied, each with its entry, and every approval verified by ssh-keygen from the record.
func TestAChangeFromProposalToRecord(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 2}, nil)
	r := w.propose("alice", policy.CreateKeySet, newKeySet("demo", suite.TDES))
	assert.Equal(t, store.RequestOpen, r.State)
	assert.Nil(t, w.catalogue().KeySet("demo"))
	r, err := w.approve("bob", r)
	require.NoError(t, err)
	assert.Equal(t, store.RequestOpen, r.State)
	assert.Nil(t, w.catalogue().KeySet("demo"), "one of two is not enough")
	r, err = w.approve("carol", r)
	require.NoError(t, err)
	assert.Equal(t, store.RequestApplied, r.State)
	c := w.catalogue()
	require.NotNil(t, c.KeySet("demo"))
	assert.EqualValues(t, 2, c.Revision)

	var events []audit.Event
	for _, e := range w.entries() {
		events = append(events, e.Event)
		if e.Event != audit.ChangeApproved {
			continue
		}
		require.NoError(t, verifiedByKeygen(t, []byte(e.Change.Bytes), e.Change.OfficerKey, []byte(e.Change.Signature)))
		change, err := DecodeChange([]byte(e.Change.Bytes))
		require.NoError(t, err)
		assert.Equal(t, r.ID, change.ID)
		assert.Equal(t, e.Client, e.Change.Officer)
	}
	assert.Equal(t, []audit.Event{
		audit.OfficersRegistered, audit.RulesRegistered, audit.ChangeProposed, audit.ChangeApproved, audit.ChangeApproved, audit.ChangeApplied,
	}, events)
	sum, err := c.Digest()
	require.NoError(t, err)
	assert.Equal(t, sum, w.last().Change.Catalogue)
	assert.Equal(t, c.Revision, w.last().Change.Revision)
	first, err := DecodeCatalogue([]byte(w.entries()[0].Change.Bytes))
	require.NoError(t, err, "the record begins with the first officers and their keys")
	assert.Len(t, first.Officers, 3)
}

// attack is one way to have a change that officers did not decide on.
type attack struct {
	name   string
	quorum int
	do     func(t *testing.T, w *world) error
	want   error
	leaves store.RequestState // of the first change; "" is not looked at
}

func attacks() []attack {
	open := func(w *world) store.ChangeRequest {
		return w.propose("alice", policy.CreateKeySet, newKeySet("demo", suite.TDES))
	}
	other := func(w *world) store.ChangeRequest {
		return w.propose("alice", policy.CreateKeySet, newKeySet("other", suite.TDES))
	}
	remove := func(name string) func(*Change) { return func(c *Change) { c.Officer = &OfficerChange{Name: name} } }
	refusal := func(_ store.ChangeRequest, err error) error { return err }
	return []attack{
		{"an approval replayed while the change is open", 2, func(t *testing.T, w *world) error {
			r := open(w)
			signature := w.keys["bob"].sign(t, r.Body)
			_, err := w.Approve(t.Context(), officer("bob"), r.ID, signature)
			require.NoError(t, err)
			return refusal(w.Approve(t.Context(), officer("bob"), r.ID, signature))
		}, ErrApprovedTwice, store.RequestOpen},
		{"an approval replayed after the change was applied", 1, func(t *testing.T, w *world) error {
			r := open(w)
			signature := w.keys["bob"].sign(t, r.Body)
			_, err := w.Approve(t.Context(), officer("bob"), r.ID, signature)
			require.NoError(t, err)
			return refusal(w.Approve(t.Context(), officer("bob"), r.ID, signature))
		}, ErrNotOpen, store.RequestApplied},
		{"an approval of another request", 1, func(t *testing.T, w *world) error {
			r, o := open(w), other(w)
			return refusal(w.Approve(t.Context(), officer("bob"), r.ID, w.keys["bob"].sign(t, o.Body)))
		}, ErrWrongChange, store.RequestOpen},
		{"an approval of the same change proposed anew", 1, func(t *testing.T, w *world) error {
			r := open(w)
			return refusal(w.Approve(t.Context(), officer("bob"), open(w).ID, w.keys["bob"].sign(t, r.Body)))
		}, ErrWrongChange, store.RequestOpen},
		{"an approval over altered bytes", 1, func(t *testing.T, w *world) error {
			r := open(w)
			altered := strings.Replace(string(r.Body), `"mac1FailureLimit":10`, `"mac1FailureLimit":11`, 1)
			require.NotEqual(t, string(r.Body), altered)
			return refusal(w.Approve(t.Context(), officer("bob"), r.ID, w.keys["bob"].sign(t, []byte(altered))))
		}, ErrSignature, store.RequestOpen},
		{"an approval in another namespace", 1, func(t *testing.T, w *world) error {
			r := open(w)
			signature, err := keygen(t, r.Body, "-Y", "sign", "-n", "file", "-f", w.keys["bob"].path)
			require.NoError(t, err)
			return refusal(w.Approve(t.Context(), officer("bob"), r.ID, signature))
		}, ErrSignature, store.RequestOpen},
		{"an approval that is no signature", 1, func(t *testing.T, w *world) error {
			return refusal(w.Approve(t.Context(), officer("bob"), open(w).ID, []byte("yes")))
		}, ErrSignature, store.RequestOpen},
		{"an approval that has expired", 1, func(t *testing.T, w *world) error {
			r := open(w)
			w.clock = r.ExpiresAt
			return refusal(w.approve("bob", r))
		}, ErrExpired, store.RequestExpired},
		{"an approval a second before, then the clock set back", 2, func(t *testing.T, w *world) error {
			r := open(w)
			w.clock = r.ExpiresAt
			_, err := w.approve("bob", r)
			require.ErrorIs(t, err, ErrExpired)
			w.clock = noon
			return refusal(w.approve("bob", r))
		}, ErrNotOpen, store.RequestExpired},
		{"an approval by the author", 1, func(_ *testing.T, w *world) error {
			return refusal(w.approve("alice", open(w)))
		}, ErrOwnChange, store.RequestOpen},
		{"an approval by the author with another's signature", 1, func(t *testing.T, w *world) error {
			r := open(w)
			return refusal(w.Approve(t.Context(), officer("alice"), r.ID, w.keys["bob"].sign(t, r.Body)))
		}, ErrOwnChange, store.RequestOpen},
		{"an approval with another officer's signature", 1, func(t *testing.T, w *world) error {
			r := open(w)
			return refusal(w.Approve(t.Context(), officer("bob"), r.ID, w.keys["carol"].sign(t, r.Body)))
		}, ErrSignature, store.RequestOpen},
		{"an approval by an officer that was removed", 1, func(t *testing.T, w *world) error {
			r := open(w)
			w.does(policy.RemoveOfficer, remove("carol"))
			return refusal(w.approve("carol", r))
		}, ErrNotAnOfficer, store.RequestOpen},
		{"an approval by a key that was replaced", 1, func(t *testing.T, w *world) error {
			r := open(w)
			old := w.keys["carol"]
			w.does(policy.ReplaceOfficer, func(c *Change) { c.Officer = &OfficerChange{Name: "carol", Key: newSSHKey(t, "-t", "ed25519").text} })
			return refusal(w.Approve(t.Context(), officer("carol"), r.ID, old.sign(t, r.Body)))
		}, ErrSignature, store.RequestOpen},
		{"an approval by who never was an officer", 1, func(t *testing.T, w *world) error {
			r := open(w)
			return refusal(w.Approve(t.Context(), officer("mallory"), r.ID, newSSHKey(t, "-t", "ed25519").sign(t, r.Body)))
		}, ErrNotAnOfficer, store.RequestOpen},
		{"a quorum of one officer twice", 2, func(t *testing.T, w *world) error {
			r := open(w)
			_, err := w.approve("bob", r)
			require.NoError(t, err)
			again := w.keys["bob"].sign(t, r.Body, "-O", "hashalg=sha256") // another signature, as right as the first
			return refusal(w.Approve(t.Context(), officer("bob"), r.ID, again))
		}, ErrApprovedTwice, store.RequestOpen},
		{"a quorum reached after what the change is about was changed", 1, func(t *testing.T, w *world) error {
			r := w.propose("alice", policy.AddOfficer, func(c *Change) { c.Officer = &OfficerChange{Name: "dave", Key: testOnlyKeyText("dave")} })
			w.does(policy.SetQuorum, quorumOf(2))
			return refusal(w.approve("bob", r))
		}, ErrBaseChanged, store.RequestFailed},
		{"a quorum with the approval of an officer that was removed since", 2, func(t *testing.T, w *world) error {
			addDave := w.propose("alice", policy.AddOfficer, func(c *Change) { c.Officer = &OfficerChange{Name: "dave", Key: testOnlyKeyText("dave")} })
			for _, name := range []string{"bob", "carol"} {
				_, err := w.approve(name, addDave)
				require.NoError(t, err)
			}
			r := open(w)
			_, err := w.approve("carol", r)
			require.NoError(t, err)
			gone := w.propose("alice", policy.RemoveOfficer, remove("carol"))
			_, err = w.approve("bob", gone)
			require.NoError(t, err)
			w.keys["dave"] = newSSHKey(t, "-t", "ed25519")
			_, err = w.approve("carol", gone)
			require.NoError(t, err)
			r, err = w.approve("bob", r)
			require.NoError(t, err)
			require.Equal(t, store.RequestOpen, r.State, "carol's approval counts no more")
			return refusal(w.approve("carol", r))
		}, ErrNotAnOfficer, ""},
		{"a change by an author that was removed since", 1, func(t *testing.T, w *world) error {
			r := w.propose("carol", policy.CreateKeySet, newKeySet("demo", suite.TDES))
			w.does(policy.RemoveOfficer, remove("carol"))
			return refusal(w.approve("bob", r))
		}, ErrNotAnOfficer, store.RequestFailed},
		{"a change of nobody", 1, func(t *testing.T, w *world) error {
			return refusal(w.tryPropose("mallory", policy.CreateKeySet, newKeySet("demo", suite.TDES)))
		}, ErrNotAnOfficer, ""},
		{"a change that is not there", 1, func(t *testing.T, w *world) error {
			r := open(w)
			r.ID = strings.Repeat("ab", 16)
			return refusal(w.approve("bob", r))
		}, ErrUnknown, store.RequestOpen},
		{"a change whose id is none", 1, func(t *testing.T, w *world) error {
			r := open(w)
			r.ID = strings.Repeat("'; DROP TABLE custody; --", 2000)
			return refusal(w.approve("bob", r))
		}, ErrUnknown, store.RequestOpen},
		{"a malformed change", 1, func(t *testing.T, w *world) error {
			return refusal(w.tryPropose("alice", policy.Act(strings.Repeat("key.copy", 9000)), func(*Change) {}))
		}, ErrMalformed, ""},
		{"a change that asks what cannot be", 1, func(t *testing.T, w *world) error {
			return refusal(w.tryPropose("alice", policy.SetQuorum, quorumOf(3)))
		}, ErrOfficersFew, ""},
		{"an approval of what was rejected", 1, func(t *testing.T, w *world) error {
			r := open(w)
			_, err := w.Reject(t.Context(), officer("carol"), r.ID, "not now")
			require.NoError(t, err)
			return refusal(w.approve("bob", r))
		}, ErrNotOpen, store.RequestRejected},
		{"an approval of what was cancelled", 1, func(t *testing.T, w *world) error {
			r := open(w)
			_, err := w.Cancel(t.Context(), officer("alice"), r.ID)
			require.NoError(t, err)
			return refusal(w.approve("bob", r))
		}, ErrNotOpen, store.RequestCancelled},
		{"a rejection by the author", 1, func(t *testing.T, w *world) error {
			return refusal(w.Reject(t.Context(), officer("alice"), open(w).ID, "no"))
		}, ErrOwnChange, store.RequestOpen},
		{"a rejection by nobody", 1, func(t *testing.T, w *world) error {
			return refusal(w.Reject(t.Context(), officer("mallory"), open(w).ID, "no"))
		}, ErrNotAnOfficer, store.RequestOpen},
		{"a rejection without a reason", 1, func(t *testing.T, w *world) error {
			return refusal(w.Reject(t.Context(), officer("bob"), open(w).ID, ""))
		}, ErrMalformed, store.RequestOpen},
		{"a rejection of one's own removal", 1, func(t *testing.T, w *world) error {
			return refusal(w.Reject(t.Context(), officer("carol"), w.propose("alice", policy.RemoveOfficer, remove("carol")).ID, "no"))
		}, ErrOwnRemoval, store.RequestOpen},
		{"a cancellation by another", 1, func(t *testing.T, w *world) error {
			return refusal(w.Cancel(t.Context(), officer("bob"), open(w).ID))
		}, ErrNotAuthor, store.RequestOpen},
		{"a ceremony's end without its quorum", 1, func(t *testing.T, w *world) error {
			r := w.propose("alice", policy.CreateBackup, func(c *Change) { c.Backup = &BackupChange{Threshold: 2, Holders: []string{"alice", "bob"}} })
			return refusal(w.Complete(t.Context(), officer("alice"), r.ID, Made{}, ""))
		}, ErrNotOpen, store.RequestOpen},
	}
}

// The attack list: each is refused by its name, recorded under it, and changes nothing.
func TestAttacksOnAQuorum(t *testing.T) {
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t, policy.Quorum{Default: a.quorum}, nil)
			err := a.do(t, w)
			require.ErrorIs(t, err, a.want)
			e := w.last()
			assert.Equal(t, audit.ChangeRefused, e.Event)
			assert.Equal(t, Reason(a.want), e.Outcome)
			assert.NotEmpty(t, e.Outcome)
			assert.NotEmpty(t, e.Client)
			if c := w.catalogue(); a.leaves != store.RequestApplied {
				assert.Nil(t, c.KeySet("demo"))
			}
			all, err := w.Requests(t.Context(), store.RequestFilter{Limit: 1})
			require.NoError(t, err)
			if a.leaves != "" {
				assert.Equal(t, a.leaves, all[0].State)
			}
		})
	}
}

// Every typed error has a name of its own in the record.
func TestReasonsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range reasons {
		assert.Equal(t, r.outcome, Reason(r.err))
		assert.False(t, seen[r.outcome], r.outcome)
		seen[r.outcome] = true
	}
	assert.Empty(t, Reason(store.ErrUnavailable))
	assert.Empty(t, Reason(nil))
}

// Many officers at once: one change is applied once, whoever makes the quorum.
func TestApprovalsAtOnce(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 1}, nil)
	r := w.propose("alice", policy.CreateKeySet, newKeySet("demo", suite.TDES))
	signatures := map[string][]byte{"bob": w.keys["bob"].sign(t, r.Body), "carol": w.keys["carol"].sign(t, r.Body)}
	outcomes := make(chan error, 20)
	for n := range cap(outcomes) {
		name := []string{"bob", "carol"}[n%2]
		go func() {
			_, err := w.Approve(t.Context(), officer(name), r.ID, signatures[name])
			outcomes <- err
		}()
	}
	applied := 0
	for range cap(outcomes) {
		if err := <-outcomes; err == nil {
			applied++
		} else {
			require.ErrorIs(t, err, ErrNotOpen)
		}
	}
	assert.Equal(t, 1, applied)
	assert.EqualValues(t, 2, w.catalogue().Revision)
}

// What has expired is ended by nobody's call.
func TestExpiryIsRecorded(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 1}, nil)
	r := w.propose("alice", policy.CreateKeySet, newKeySet("demo", suite.TDES))
	require.NoError(t, w.Resume(t.Context()))
	w.clock = r.ExpiresAt.Add(time.Second)
	require.NoError(t, w.Resume(t.Context()))
	after, _, err := w.Request(t.Context(), r.ID)
	require.NoError(t, err)
	assert.Equal(t, store.RequestExpired, after.State)
	assert.Equal(t, "EXPIRED", w.last().Outcome)
	n := len(w.entries())
	require.NoError(t, w.Resume(t.Context()))
	assert.Len(t, w.entries(), n)
}

// A ceremony's change waits for what it brings, and takes nothing else.
func TestCeremoniesComplete(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 1}, nil)
	with := func(c *Change) {
		c.Transport = &TransportChange{Name: "bureau", Bits: 256, KCV: "0123456789", Components: 3}
	}
	r := w.does(policy.ImportTransport, with)
	require.Equal(t, store.RequestApproved, r.State)
	change, c, err := w.Ready(t.Context(), r.ID)
	require.NoError(t, err)
	_, err = w.Complete(t.Context(), officer("carol"), r.ID, madeFor(c, change), "in the vault room")
	require.NoError(t, err)
	assert.NotNil(t, w.catalogue().Transport("bureau"))
	assert.Equal(t, "in the vault room", w.last().Detail)
	_, err = w.Complete(t.Context(), officer("carol"), r.ID, madeFor(c, change), "again")
	require.ErrorIs(t, err, ErrNotOpen)

	other := func(c *Change) { with(c); c.Transport.Name = "other" }
	r = w.does(policy.ImportTransport, other)
	change, _, err = w.Ready(t.Context(), r.ID)
	require.NoError(t, err)
	made := madeFor(c, change)
	made.Transport.KCV.Value = "9876543210"
	_, err = w.Complete(t.Context(), officer("carol"), r.ID, made, "")
	require.ErrorIs(t, err, ErrInvalid)
	_, _, err = w.Ready(t.Context(), r.ID)
	require.ErrorIs(t, err, ErrNotOpen)
}

func TestPursesAreResetWithTheirChange(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 1}, nil)
	w.does(policy.CreateKeySet, newKeySet("demo", suite.TDES))
	key := store.PurseKey{KeySet: "demo", Card: "3105228000001117", Purse: "EP"}
	require.NoError(t, w.store.Commit(t.Context(), store.Change{Purse: key, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Highest = 7
		return nil, nil
	}}))
	r := w.does(policy.ResetPurse, func(c *Change) { c.Purse = &PurseChange{KeySet: "demo", Card: key.Card, Purse: "EP"} })
	assert.Equal(t, store.RequestApplied, r.State)
	require.NoError(t, w.store.Commit(t.Context(), store.Change{Purse: key, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		assert.Equal(t, store.NoCounter, p.Highest)
		return nil, nil
	}}))
}

// Whoever writes into the database has no quorum: approvals that were not given are not counted, twice given ones once, the author's never.
func TestApprovalsWrittenIntoTheStore(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 2}, nil)
	r := w.propose("alice", policy.CreateKeySet, newKeySet("demo", suite.TDES))
	approval := func(name, signer string, body []byte) store.Approval {
		return store.Approval{Officer: name, Key: w.keys[name].text, Signature: string(w.keys[signer].sign(t, body)), At: noon}
	}
	forged := []store.Approval{
		approval("alice", "alice", r.Body), approval("carol", "bob", r.Body), approval("carol", "carol", append(r.Body, ' ')),
		{Officer: "carol", Key: w.keys["bob"].text, Signature: string(w.keys["bob"].sign(t, r.Body)), At: noon},
		{Officer: "mallory", Key: w.keys["carol"].text, Signature: string(w.keys["carol"].sign(t, r.Body)), At: noon},
	}
	require.NoError(t, w.store.Commit(t.Context(), store.Change{Request: r.ID, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Request().Approvals = forged
		return nil, nil
	}}))
	r, err := w.approve("bob", r)
	require.NoError(t, err)
	assert.Equal(t, store.RequestOpen, r.State)
	assert.Contains(t, w.last().Detail, "1 of 2")

	twice := w.propose("alice", policy.CreateKeySet, newKeySet("other", suite.TDES))
	bobs := []store.Approval{approval("bob", "bob", twice.Body), approval("bob", "bob", twice.Body)}
	require.NoError(t, w.store.Commit(t.Context(), store.Change{Request: twice.ID, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		p.Request().Approvals = bobs
		p.Request().State = store.RequestApproved
		return nil, nil
	}}))
	_, err = w.Complete(t.Context(), officer("bob"), twice.ID, Made{}, "")
	require.ErrorIs(t, err, ErrNoQuorum)
	assert.ErrorContains(t, err, "1 of 2")
}
