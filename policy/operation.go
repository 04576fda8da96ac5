package policy

import "slices"

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

// The commands of SignCommand, as Context.Command names them: each is an action of its own.
const (
	CardBlock             = "CardBlock"
	ApplicationUnblock    = "ApplicationUnblock"
	ApplicationBlock      = "ApplicationBlock"
	PINUnblock            = "PINUnblock"
	ReloadPIN             = "ReloadPIN"
	UpdateBinary          = "UpdateBinary" // with a MAC alone
	UpdateRecord          = "UpdateRecord"
	EncryptedUpdateBinary = "EncryptedUpdateBinary" // with a MAC, and the data encrypted: the card profile says which of the two
	EncryptedUpdateRecord = "EncryptedUpdateRecord"
)

// The directions of AuthenticateCard, as Context.Command names them.
const (
	AuthenticateExternal = "AuthenticateExternal" // the host to the card, under the control key
	AuthenticateInternal = "AuthenticateInternal" // the card to the host, under the internal-auth key
)

// part is what an operation does under one kind of key, where it does several things.
type part struct{ action, kind string }

// parts are the actions in the group of an operation's own, which stands for a request that names none of them.
var parts = map[Operation][]part{
	SignCommand: {
		{CardBlock, "maintenance"}, {ApplicationUnblock, "maintenance"}, {ApplicationBlock, "maintenance"},
		{PINUnblock, "pin-unblock"}, {ReloadPIN, "pin-reload"},
		{UpdateBinary, "maintenance"}, {UpdateRecord, "maintenance"},
		{EncryptedUpdateBinary, "maintenance"}, {EncryptedUpdateRecord, "maintenance"},
	},
	AuthenticateCard: {{AuthenticateExternal, "control"}, {AuthenticateInternal, "internal-auth"}},
}

// kinds are the kinds of key of the operations whose every request is about one.
var kinds = map[Operation]string{
	AuthorizeLoad: "load", SettleLoad: "load", AuthorizeUnload: "unload", AuthorizeOverdraft: "overdraft",
	ConfirmLoad: "tac", ConfirmUnload: "unload", ConfirmOverdraft: "tac", VerifyTac: "tac", VerifyTacs: "tac",
	BeginPurchase: "purchase", Challenge: "reader", Authenticate: "reader", Seal: "reader", Open: "reader",
}

// Kind is the kind of the key, as keyderive names it, that a request for op is about; command is of SignCommand and AuthenticateCard.
// It is "" where there is no single one, which is so too of a request that does not say which command.
func (op Operation) Kind(command string) string {
	for _, p := range parts[op] {
		if p.action == command {
			return p.kind
		}
	}
	return kinds[op]
}

// Action is the name of the Cedar action that a request for op is judged as: that of its command, or its own.
func (op Operation) Action(command string) string {
	for _, p := range parts[op] {
		if p.action == command {
			return p.action
		}
	}
	return string(op)
}
