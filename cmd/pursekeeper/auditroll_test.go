package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/policy"
)

// told is a record that is told to a roll, entry by entry.
type told struct {
	testing.TB
	*roll
	n     int
	wrong []string
}

const (
	aliceKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
	bobKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC"
	carolKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD"
)

var keysOfOfficers = map[string]string{"alice": aliceKey, "bob": bobKey, "carol": carolKey}

func newTold(t testing.TB, quorum int) *told {
	first := custody.Catalogue{Revision: 1, Quorum: policy.Quorum{Default: quorum}}
	for _, name := range []string{"alice", "bob", "carol"} {
		first.Officers = append(first.Officers, custody.Officer{Name: name, Key: keysOfOfficers[name]})
	}
	line, err := first.Encode()
	require.NoError(t, err)
	told := &told{TB: t, roll: newRoll()}
	told.entry(audit.OfficersRegistered, audit.Change{Bytes: string(line)})
	return told
}

func (r *told) entry(event audit.Event, about audit.Change) {
	r.keep(r.follow(audit.Entry{Event: event, Change: &about}))
}

func (r *told) keep(err error) {
	if err != nil {
		r.wrong = append(r.wrong, err.Error())
	}
}

func (r *told) propose(author string, act policy.Act, with func(*custody.Change)) (bytes string, id string) {
	r.n++
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	c := custody.Change{
		ID: strings.Repeat(string(rune('a'+r.n)), 32), Act: act, Author: author, Reason: "a test", Proposed: now, Expires: now.Add(time.Hour),
		Base: strings.Repeat("0", 64),
	}
	with(&c)
	line, err := c.Encode()
	require.NoError(r, err)
	_, err = custody.DecodeChange(line)
	require.NoError(r, err)
	r.entry(audit.ChangeProposed, audit.Change{ID: c.ID, Bytes: string(line)})
	return string(line), c.ID
}

// approves is an approval whose signature was verified by the officer's key.
func (r *told) approves(name, bytes, id string) {
	a := audit.Change{ID: id, Bytes: bytes, Officer: name, OfficerKey: keysOfOfficers[name]}
	change, err := custody.DecodeChange([]byte(bytes))
	if err == nil {
		err = r.isOfficer(a, change)
	}
	if err == nil {
		err = r.approve(a)
	}
	r.keep(err)
}

func (r *told) applied(id string) { r.entry(audit.ChangeApplied, audit.Change{ID: id}) }

// What a record says was applied without its quorum is found out from the record alone.
func TestChangesWithoutTheirQuorum(t *testing.T) {
	set := func(c *custody.Change) { c.Quorum = &policy.Quorum{Default: 1} }
	remove := func(name string) func(*custody.Change) {
		return func(c *custody.Change) { c.Officer = &custody.OfficerChange{Name: name} }
	}
	destroy := func(c *custody.Change) { c.Transport = &custody.TransportChange{Name: "bureau", KCV: "012345"} }
	for _, c := range []struct {
		name string
		tell func(r *told)
		want string // "" is nothing wrong
	}{
		{"two of two", func(r *told) {
			b, id := r.propose("alice", policy.SetQuorum, set)
			r.approves("bob", b, id)
			r.approves("carol", b, id)
			r.applied(id)
			b, id = r.propose("alice", policy.SetQuorum, set) // and one of one from then on
			r.approves("bob", b, id)
			r.applied(id)
		}, ""},
		{"none", func(r *told) { _, id := r.propose("alice", policy.SetQuorum, set); r.applied(id) }, "0 approvals of 2"},
		{"one of two", func(r *told) {
			b, id := r.propose("alice", policy.SetQuorum, set)
			r.approves("bob", b, id)
			r.applied(id)
		}, "1 approvals of 2"},
		{"one officer twice", func(r *told) {
			b, id := r.propose("alice", policy.SetQuorum, set)
			r.approves("bob", b, id)
			r.approves("bob", b, id)
			r.applied(id)
		}, "1 approvals of 2"},
		{"the author", func(r *told) { b, id := r.propose("alice", policy.SetQuorum, set); r.approves("alice", b, id) }, "of its own"},
		{"over other bytes than were proposed", func(r *told) {
			b, id := r.propose("alice", policy.SetQuorum, set)
			r.approves("bob", strings.Replace(b, "a test", "a trap", 1), id)
		}, "other bytes"},
		{"of an author who is no officer", func(r *told) {
			b, id := r.propose("mallory", policy.SetQuorum, set)
			r.approves("bob", b, id)
			r.approves("carol", b, id)
			r.applied(id)
		}, "mallory is no officer"},
		{"never proposed", func(r *told) { r.applied(strings.Repeat("9", 32)) }, "never proposed"},
		{"applied twice", func(r *told) {
			b, id := r.propose("alice", policy.SetQuorum, set)
			r.approves("bob", b, id)
			r.approves("carol", b, id)
			r.applied(id)
			r.applied(id)
		}, "or twice"},
		{"with an approval of an officer who went", func(r *told) {
			b, id := r.propose("alice", policy.SetQuorum, set)
			r.approves("carol", b, id)
			gone, goneID := r.propose("alice", policy.RemoveOfficer, remove("carol"))
			r.approves("bob", gone, goneID)
			r.approves("carol", gone, goneID)
			r.applied(goneID)
			r.approves("bob", b, id)
			r.applied(id)
		}, "1 approvals of 2"},
		{"an officer who went while the token worked", func(r *told) {
			b, id := r.propose("alice", policy.DestroyTransport, destroy)
			gone, goneID := r.propose("alice", policy.RemoveOfficer, remove("carol"))
			r.approves("bob", b, id)
			r.approves("carol", b, id)
			r.approves("bob", gone, goneID)
			r.approves("carol", gone, goneID)
			r.applied(goneID)
			r.applied(id)
		}, ""},
		{"by an officer who went", func(r *told) {
			gone, goneID := r.propose("alice", policy.RemoveOfficer, remove("carol"))
			r.approves("bob", gone, goneID)
			r.approves("carol", gone, goneID)
			r.applied(goneID)
			b, id := r.propose("alice", policy.SetQuorum, set)
			r.approves("carol", b, id)
		}, "no officer with that key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTold(t, 2)
			c.tell(r)
			if c.want == "" {
				assert.Empty(t, r.wrong)
				return
			}
			require.Len(t, r.wrong, 1)
			assert.Contains(t, r.wrong[0], c.want)
		})
	}
}
