// Package policy says who may do what, with which key set, up to what amount.
//
// It is pure and at the bottom of the house: no clock, no I/O, no import of the project, so that its test is a table that a
// security officer can read. [Policy.Decide] turns a request into a [Grant]; the signer's operations take a Grant and
// refuse the zero one, so that nothing is computed without a decision. The default is deny.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Operation is one method of the API, by its name there.
type Operation string

// The operations.
const (
	AuthorizeLoad    Operation = "AuthorizeLoad"
	ConfirmLoad      Operation = "ConfirmLoad"
	BeginSettlement  Operation = "BeginSettlement"
	SettleLoad       Operation = "SettleLoad"
	GetTransaction   Operation = "GetTransaction"
	ListTransactions Operation = "ListTransactions"
	UnlockCard       Operation = "UnlockCard"

	AuthorizeUnload    Operation = "AuthorizeUnload"
	ConfirmUnload      Operation = "ConfirmUnload"
	AuthorizeOverdraft Operation = "AuthorizeOverdraft"
	ConfirmOverdraft   Operation = "ConfirmOverdraft"

	VerifyTac        Operation = "VerifyTac"
	VerifyTacs       Operation = "VerifyTacs"
	SignCommand      Operation = "SignCommand"
	AuthenticateCard Operation = "AuthenticateCard"

	PersonaliseCard Operation = "PersonaliseCard"
	PersonalisePSAM Operation = "PersonalisePSAM"

	BeginPurchase    Operation = "BeginPurchase"
	CompletePurchase Operation = "CompletePurchase"
	Challenge        Operation = "Challenge"
	Authenticate     Operation = "Authenticate"
	Seal             Operation = "Seal"
	Open             Operation = "Open"

	ListKeySets Operation = "ListKeySets"

	// Replay compares recorded MACs with the keys: whoever may call it learns whether they are equal, and never a MAC.
	Replay           Operation = "Replay"
	ListEntries      Operation = "ListEntries"
	ReadEntry        Operation = "ReadEntry"
	ProveEntry       Operation = "ProveEntry"
	LatestCheckpoint Operation = "LatestCheckpoint"
	ExportEntries    Operation = "ExportEntries"
	// About what officers decide on, which is of no one key set.
	ProposeChange Operation = "ProposeChange"
	ApproveChange Operation = "ApproveChange"
	RejectChange  Operation = "RejectChange"
	CancelChange  Operation = "CancelChange"
	ListChanges   Operation = "ListChanges"
	ReadChange    Operation = "ReadChange"
	ListOfficers  Operation = "ListOfficers"
)

// ofNoKeySet are the operations that are asked for without a key set.
var ofNoKeySet = []Operation{ProposeChange, ApproveChange, RejectChange, CancelChange, ListChanges, ReadChange, ListOfficers}

// OfKeySet reports whether a request for the operation names a key set.
func (op Operation) OfKeySet() bool { return !slices.Contains(ofNoKeySet, op) }

// Operations returns every operation once.
func Operations() []Operation {
	return []Operation{
		AuthorizeLoad, ConfirmLoad, BeginSettlement, SettleLoad, GetTransaction, ListTransactions, UnlockCard,
		AuthorizeUnload, ConfirmUnload, AuthorizeOverdraft, ConfirmOverdraft,
		VerifyTac, VerifyTacs, SignCommand, AuthenticateCard,
		PersonaliseCard, PersonalisePSAM,
		BeginPurchase, CompletePurchase, Challenge, Authenticate, Seal, Open,
		ListKeySets, Replay,
		ListEntries, ReadEntry, ProveEntry, LatestCheckpoint, ExportEntries,
		ProposeChange, ApproveChange, RejectChange, CancelChange, ListChanges, ReadChange, ListOfficers,
	}
}

// Role is what a client is to the signer.
type Role string

// The roles.
const (
	Platform     Role = "platform"
	Reader       Role = "reader"
	Officer      Role = "officer"
	Auditor      Role = "auditor"
	Personaliser Role = "personaliser"
	Operator     Role = "operator"
)

// Roles returns every role once.
func Roles() []Role { return []Role{Platform, Reader, Officer, Auditor, Personaliser, Operator} }

// rights is the first fixed rule set: the operations of each role. A role or operation that is not here is denied.
var rights = map[Role][]Operation{
	Platform: {
		AuthorizeLoad, ConfirmLoad, BeginSettlement, SettleLoad, GetTransaction, ListTransactions,
		AuthorizeUnload, ConfirmUnload, AuthorizeOverdraft, ConfirmOverdraft,
		VerifyTac, VerifyTacs, SignCommand, AuthenticateCard,
	},
	Reader: {BeginPurchase, CompletePurchase, Challenge, Authenticate, Seal, Open},
	// Not AuthenticateCard: its cryptogram is a block of the caller's choice under the key that WRITE KEY goes under.
	Personaliser: {PersonaliseCard, PersonalisePSAM},
	Officer: {
		UnlockCard, GetTransaction, ListTransactions, ListKeySets,
		ProposeChange, ApproveChange, RejectChange, CancelChange, ListChanges, ReadChange, ListOfficers,
	},
	Auditor: {
		GetTransaction, ListTransactions, ListKeySets, Replay,
		ListEntries, ReadEntry, ProveEntry, LatestCheckpoint, ExportEntries,
		ListChanges, ReadChange, ListOfficers,
	},
}

// Client is one caller: the exact URI or DNS name in its certificate, one role, and the key sets that it may use.
type Client struct {
	Name     string   `json:"name"`
	Identity string   `json:"identity"`
	Role     Role     `json:"role"`
	KeySets  []string `json:"keySets,omitempty"`
	// MaxAmountFen is the largest amount of one of its transactions in fen; 0: no ceiling of its own.
	MaxAmountFen uint64 `json:"maxAmountFen,omitempty"`
	// Suspended: it is known, and may do nothing.
	Suspended bool `json:"suspended,omitempty"`
}

// Policy is a validated set of clients. The zero Policy knows nobody and denies everything.
type Policy struct {
	clients map[string]Client // by identity
	digest  string
}

// New validates rules. Names and identities of clients are unique, roles are known.
func New(rules Rules) (*Policy, error) {
	clients := rules.Clients
	p := &Policy{clients: make(map[string]Client, len(clients))}
	names := make(map[string]bool, len(clients))
	var canonical []string
	for i, c := range clients {
		switch {
		case c.Name == "":
			return nil, fmt.Errorf("client %d: name is empty", i+1)
		case names[c.Name]:
			return nil, fmt.Errorf("client %q: name is used twice", c.Name)
		case c.Identity == "":
			return nil, fmt.Errorf("client %q: identity is empty", c.Name)
		case p.clients[c.Identity].Name != "":
			return nil, fmt.Errorf("client %q: identity %q is also client %q's", c.Name, c.Identity, p.clients[c.Identity].Name)
		case !slices.Contains(Roles(), c.Role):
			return nil, fmt.Errorf("client %q: role %q: expected one of %v", c.Name, c.Role, Roles())
		}
		c.KeySets = slices.Sorted(slices.Values(c.KeySets))
		names[c.Name] = true
		p.clients[c.Identity] = c
		canonical = append(canonical, fmt.Sprintf("%q %q %q %q %d %t\n", c.Identity, c.Name, c.Role, c.KeySets, c.MaxAmountFen, c.Suspended))
	}
	slices.Sort(canonical)
	sum := sha256.Sum256([]byte(strings.Join(canonical, "")))
	p.digest = hex.EncodeToString(sum[:])
	return p, nil
}

// Digest identifies the policy in the record: SHA-256 over its clients in canonical order, in hex.
func (p *Policy) Digest() string { return p.digest }

// Caller is a client that its certificate proved. The zero Caller is nobody.
type Caller struct{ client Client }

// Name is the client's name, "" for nobody.
func (c Caller) Name() string { return c.client.Name }

// Role is the client's role.
func (c Caller) Role() Role { return c.client.Role }

// Identify finds the one client among the names that a verified certificate carries; none, or two, is a denial.
func (p *Policy) Identify(names []string) (Caller, error) {
	var found Caller
	for _, name := range names {
		client, ok := p.clients[name]
		if !ok {
			continue
		}
		if found.client.Name != "" && found.client.Name != client.Name {
			return Caller{}, &Denied{Reason: "the certificate names two clients"}
		}
		found = Caller{client}
	}
	if found.client.Name == "" {
		return Caller{}, &Denied{Reason: "the certificate names no client of this signer"}
	}
	if found.client.Suspended {
		return found, &Denied{Reason: fmt.Sprintf("client %s is suspended", found.client.Name)}
	}
	return found, nil
}

// Request is what Decide is asked. KeySet is "" of an operation that is of no key set.
type Request struct {
	Caller    Caller
	Operation Operation
	KeySet    string
	// Kind is the kind of the key, as keyderive names it: "load"; "" where the operation is of no single one.
	Kind    string
	Context Context
}

// Context is what is asked, beside who asks for what with which key. What a request does not have is left zero.
type Context struct {
	Amount    *uint64   // fen; of an overdraft the new limit
	Purse     string    // "ED" or "EP"
	Terminal  string    // 12 hex digits
	Profile   string    // of the key set: its card profile
	Algorithm string    // of the key set: "3DES" or "SM4"
	Command   string    // of SignCommand: the command's name in the API
	Time      time.Time // by the signer's clock, in the key set's time zone
}

// Grant is a decision in favour, and the only way to the signer's keys. The zero Grant allows nothing.
type Grant struct {
	operation Operation
	keySet    string
	maxAmount uint64
	digest    string
}

// Allows reports whether g was given for this operation on this key set.
func (g Grant) Allows(op Operation, keySet string) bool {
	return g.operation != "" && g.operation == op && g.keySet == keySet
}

// Ceiling is the largest amount of one transaction in fen that g allows; ok is false when there is none. It is applied
// where the transaction is recorded, so that a refusal keeps what the card proved and a retry gets what was recorded.
func (g Grant) Ceiling() (fen uint64, ok bool) { return g.maxAmount, g.maxAmount > 0 }

// Policy is the digest of the policy that decided.
func (g Grant) Policy() string { return g.digest }

// Denied is a decision against.
type Denied struct{ Reason string }

func (d *Denied) Error() string { return "permission denied: " + d.Reason }

// Decide grants r or returns a *Denied. The caller is looked up anew: who was identified by an earlier policy has the rights of this one.
func (p *Policy) Decide(r Request) (Grant, error) {
	c := p.clients[r.Caller.client.Identity]
	switch {
	case c.Name == "" || c.Name != r.Caller.client.Name:
		return Grant{}, &Denied{Reason: "the caller is not known"}
	case c.Suspended:
		return Grant{}, &Denied{Reason: fmt.Sprintf("client %s is suspended", c.Name)}
	case !slices.Contains(rights[c.Role], r.Operation):
		return Grant{}, &Denied{Reason: fmt.Sprintf("role %s may not %s", c.Role, r.Operation)}
	case !r.Operation.OfKeySet() && r.KeySet != "":
		return Grant{}, &Denied{Reason: fmt.Sprintf("%s is of no key set", r.Operation)}
	case r.Operation.OfKeySet() && !slices.Contains(c.KeySets, r.KeySet):
		return Grant{}, &Denied{Reason: fmt.Sprintf("client %s may not use key set %q", c.Name, r.KeySet)}
	}
	return Grant{operation: r.Operation, keySet: r.KeySet, maxAmount: c.MaxAmountFen, digest: p.digest}, nil
}
