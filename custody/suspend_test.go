package custody

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// One officer suspends a client at once: one transaction with its own two entries, no approval, and none is taken any more. It takes a quorum to
// let the client call again.
func TestASuspensionIsAtOnce(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 1}, nil)
	w.does(policy.AddClient, client1("platform", policy.Platform, "demo"))
	revision, entries := w.catalogue().Revision, len(w.entries())
	open := w.propose("carol", policy.SetPolicy, putting("a", testPolicy("a", "GetTransaction")))

	r := w.propose("alice", policy.SuspendClient, naming("platform"))
	assert.Equal(t, store.RequestApplied, r.State)
	assert.True(t, w.catalogue().Client("platform").Suspended)
	assert.Equal(t, revision+1, w.catalogue().Revision)
	recorded := w.entries()[entries+1:]
	require.Len(t, recorded, 2)
	assert.Equal(t, []audit.Event{audit.ChangeProposed, audit.ChangeApplied}, []audit.Event{recorded[0].Event, recorded[1].Event})
	assert.Equal(t, string(r.Body), recorded[0].Change.Bytes)
	assert.Equal(t, "APPLIED", recorded[1].Outcome)
	assert.Equal(t, w.catalogue().Revision, recorded[1].Change.Revision)
	_, err := w.approve("bob", r)
	require.ErrorIs(t, err, ErrNotOpen)

	_, err = w.approve("bob", open)
	require.NoError(t, err, "what an officer stops at once does not undo what others are about to decide")

	w.does(policy.ReplaceClient, client1("platform", policy.Platform))
	assert.True(t, w.catalogue().Client("platform").Suspended, "a suspended client stays so, whatever its certificate is")
	back := w.propose("alice", policy.ResumeClient, naming("platform"))
	assert.Equal(t, store.RequestOpen, back.State)
	assert.True(t, w.catalogue().Client("platform").Suspended)
	_, err = w.approve("alice", back)
	require.ErrorIs(t, err, ErrOwnChange)
	_, err = w.approve("bob", back)
	require.NoError(t, err)
	assert.False(t, w.catalogue().Client("platform").Suspended)
}

// Officers cannot lock themselves out, and one alone cannot have the others out of office: without him and whom he suspends there are enough to
// decide on him.
func TestOfficersStayInOffice(t *testing.T) {
	c := stocked(t) // three officers, one approval
	for name, r := range map[string]struct {
		act  policy.Act
		with func(*Change)
	}{
		"suspended by one": {policy.SuspendClient, naming("bob")},
	} {
		_, err := c.Propose(draft(r.act, r.with), noon)
		require.ErrorIs(t, err, ErrOfficersFew, name)
	}
	c = applied(t, c, policy.RemoveClient, naming("carol"))
	for name, r := range map[string]struct {
		act  policy.Act
		with func(*Change)
	}{
		"removed":              {policy.RemoveClient, naming("bob")},
		"given another role":   {policy.ReplaceClient, client1("bob", policy.Platform)},
		"one's own, suspended": {policy.SuspendClient, naming("alice")},
	} {
		_, err := c.Propose(draft(r.act, r.with), noon)
		require.ErrorIs(t, err, ErrOfficersFew, name)
	}

	w := newWorld(t, policy.Quorum{Default: 1}, nil)
	w.does(policy.AddOfficer, func(c *Change) { c.Officer = &OfficerChange{Name: "dave", Key: testOnlyKeyText("dave")} })
	byBob := w.propose("bob", policy.AddClient, client1("x", policy.Reader))
	w.propose("alice", policy.SuspendClient, naming("bob"))
	_, err := w.tryPropose("bob", policy.AddClient, client1("y", policy.Reader))
	require.ErrorIs(t, err, ErrNotAnOfficer, "a suspended officer proposes nothing")
	_, err = w.approve("carol", byBob)
	require.ErrorIs(t, err, ErrNotAnOfficer, "nor is what he proposed applied")
	_, err = w.tryPropose("alice", policy.SuspendClient, naming("carol"))
	require.ErrorIs(t, err, ErrOfficersFew, "alice would be alone with dave, who cannot remove her")
	r := w.propose("alice", policy.AddClient, client1("z", policy.Reader))
	_, err = w.approve("bob", r)
	require.ErrorIs(t, err, ErrNotAnOfficer)
	_, err = w.Reject(t.Context(), officer("bob"), r.ID, "no")
	require.ErrorIs(t, err, ErrNotAnOfficer)

	two := newWorld(t, policy.Quorum{Default: 2}, nil)
	for _, name := range []string{"dave", "eve"} {
		two.keys[name] = newSSHKey(t, "-t", "ed25519")
		add := two.propose("alice", policy.AddOfficer, func(c *Change) { c.Officer = &OfficerChange{Name: name, Key: two.keys[name].text} })
		for _, by := range []string{"bob", "carol"} {
			_, err = two.approve(by, add)
			require.NoError(t, err)
		}
	}
	r = two.propose("alice", policy.AddClient, client1("z", policy.Reader))
	_, err = two.approve("bob", r)
	require.NoError(t, err)
	two.propose("carol", policy.SuspendClient, naming("bob"))
	r, err = two.approve("dave", r)
	require.NoError(t, err)
	assert.Equal(t, store.RequestOpen, r.State, "what a suspended officer approved does not count")
	r, err = two.approve("eve", r)
	require.NoError(t, err)
	assert.Equal(t, store.RequestApplied, r.State)

	own := w.propose("alice", policy.RemoveClient, naming("carol"))
	_, err = w.Reject(t.Context(), officer("carol"), own.ID, "no")
	require.ErrorIs(t, err, ErrOwnRemoval)
}

// An officer whom another catalogue permitted decides nothing under this one.
func TestADecisionIsUnderTheRevisionOfItsPolicy(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 1}, nil)
	by := officer("alice")
	by.Revision = w.catalogue().Revision
	w.does(policy.AddClient, client1("x", policy.Reader))
	entries := len(w.entries())
	c := Change{Act: policy.AddClient, Reason: "a test"}
	client1("y", policy.Reader)(&c)
	_, err := w.Propose(t.Context(), by, Proposal{Change: c})
	require.ErrorIs(t, err, store.ErrRevision)
	assert.Len(t, w.entries(), entries)
	by.Revision = w.catalogue().Revision
	_, err = w.Propose(t.Context(), by, Proposal{Change: c})
	require.NoError(t, err)
}
