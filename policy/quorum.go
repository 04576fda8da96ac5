package policy

import (
	"fmt"
	"maps"
	"slices"
)

// Act names a kind of change that officers decide on, such as "key.create".
type Act string

// The acts.
const (
	AddOfficer     Act = "officer.add"
	RemoveOfficer  Act = "officer.remove"
	ReplaceOfficer Act = "officer.replace" // another SSH key for the same officer
	SetQuorum      Act = "quorum.set"

	CreateKeySet Act = "keyset.create"
	UpdateKeySet Act = "keyset.update"

	CreateKey     Act = "key.create"
	ImportKey     Act = "key.import" // from components or a key block
	ExportKey     Act = "key.export"
	ActivateKey   Act = "key.activate"
	SuspendKey    Act = "key.suspend"
	ResumeKey     Act = "key.resume"
	DeactivateKey Act = "key.deactivate"
	CompromiseKey Act = "key.compromise"
	DestroyKey    Act = "key.destroy"

	ImportTransport  Act = "transport.import" // a transport key, from components
	DestroyTransport Act = "transport.destroy"
	CreateBackup     Act = "backup.create" // the backup key, split among officers or given to Vault

	ResetPurse Act = "purse.reset" // of a card that was issued again

	AddClient     Act = "client.add"
	ReplaceClient Act = "client.replace" // another identity, role or key sets of the same client
	RemoveClient  Act = "client.remove"
	SuspendClient Act = "client.suspend" // at once, by its author alone
	ResumeClient  Act = "client.resume"
	SetPolicy     Act = "policy.set" // policy documents put and removed, and the document of limits
)

// AtProcess is no act of its own: a change that brings keys whose master will be in the process's memory needs the approvals of this too,
// beside those of its act.
const AtProcess Act = "key.process"

// Acts returns every act once.
func Acts() []Act {
	return []Act{
		AddOfficer, RemoveOfficer, ReplaceOfficer, SetQuorum, CreateKeySet, UpdateKeySet,
		CreateKey, ImportKey, ExportKey, ActivateKey, SuspendKey, ResumeKey, DeactivateKey, CompromiseKey, DestroyKey,
		ImportTransport, DestroyTransport, CreateBackup, ResetPurse,
		AddClient, ReplaceClient, RemoveClient, SuspendClient, ResumeClient, SetPolicy,
	}
}

// AtOnce reports whether an act is applied when one officer proposes it. There is one: whoever sees a client misused stops it alone, and
// only a quorum lets it go on.
func (a Act) AtOnce() bool { return a == SuspendClient }

// leastApprovals is what no quorum goes below: nothing but what is done at once is ever its author's alone.
const leastApprovals = 1

// Quorum is how many officers other than its author must approve an act. The zero Quorum approves nothing.
type Quorum struct {
	Default int         `json:"default"`        // of every act that Acts does not name
	Acts    map[Act]int `json:"acts,omitempty"` // of single acts
}

// urgent are the acts that take a key out of use at once and can be undone or lose nothing; only they may need fewer approvals than Default.
var urgent = []Act{SuspendKey, CompromiseKey}

// Validate refuses a quorum that lets an author act alone, that names an unknown act, or that asks less than the default of an act
// that is not urgent.
func (q Quorum) Validate() error {
	if q.Default < leastApprovals {
		return fmt.Errorf("quorum: default %d: expected at least %d", q.Default, leastApprovals)
	}
	for _, act := range slices.Sorted(maps.Keys(q.Acts)) {
		n := q.Acts[act]
		switch {
		case !slices.Contains(Acts(), act) && act != AtProcess:
			return fmt.Errorf("quorum: there is no act %q", act)
		case act.AtOnce():
			return fmt.Errorf("quorum: %s is done at once, without approvals", act)
		case n < leastApprovals:
			return fmt.Errorf("quorum: %s %d: expected at least %d", act, n, leastApprovals)
		case n < q.Default && !slices.Contains(urgent, act):
			return fmt.Errorf("quorum: %s %d: below the default, %d; only %v may be", act, n, q.Default, urgent)
		}
	}
	return nil
}

// Needs is the number of approvals that an act needs, 0 of one that is done at once; ok is false of the zero Quorum.
func (q Quorum) Needs(act Act) (n int, ok bool) {
	if act.AtOnce() {
		return 0, q.Default >= leastApprovals
	}
	n, named := q.Acts[act]
	if !named {
		n = q.Default
	}
	return n, n >= leastApprovals
}

// Most is the largest number that any act needs.
func (q Quorum) Most() int {
	most := q.Default
	for _, n := range q.Acts {
		most = max(most, n)
	}
	return most
}
