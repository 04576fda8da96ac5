package custody

import "github.com/pursekeeper/pursekeeper/policy"

// Allowance is what a key does for an operation. The zero value is nothing: the operation ends with KEY_NOT_ACTIVE, and the key is not
// touched.
type Allowance uint8

// What a key does.
const (
	Nothing  Allowance = iota
	Signs              // makes a MAC, a cryptogram or an encrypted key, or judges what proves that a card or reader is here now
	Verifies           // judges what was made while the key was active
	// Flagged verifies too, and the answer and the entry say that the key is compromised: whoever has it could have made the MAC.
	Flagged
	Settles // judges an answer that settles what is open
	// Replaces writes the key that takes its place on a card, alone.
	Replaces
)

// perState is one row of the table: a KeyState to what it allows.
type perState [Destroyed + 1]Allowance

// allowances is what a key in each state does for each operation that uses keys (NIST SP 800-57 part 1, §7). Of PersonaliseCard and
// PersonalisePSAM it is the control key that the commands go under; the keys that they write must sign.
//
// A deactivated control key replaces itself: the card knows no other. A compromised one does not, for whoever has it would read the
// new key from the command; and a compromised key does not settle, for whoever has it could make any card's answer, fresh ones too, and
// have a load that was taken declared not applied.
var allowances = map[policy.Operation]perState{
	policy.AuthorizeLoad:      {Active: Signs},
	policy.AuthorizeUnload:    {Active: Signs},
	policy.AuthorizeOverdraft: {Active: Signs},
	policy.BeginPurchase:      {Active: Signs},
	policy.SignCommand:        {Active: Signs},
	policy.AuthenticateCard:   {Active: Signs},
	policy.Challenge:          {Active: Signs},
	policy.Authenticate:       {Active: Signs},
	policy.Seal:               {Active: Signs},
	policy.Open:               {Active: Signs},

	policy.ConfirmLoad:      {Active: Verifies, Deactivated: Verifies, Compromised: Flagged},
	policy.ConfirmUnload:    {Active: Verifies, Deactivated: Verifies, Compromised: Flagged},
	policy.ConfirmOverdraft: {Active: Verifies, Deactivated: Verifies, Compromised: Flagged},
	policy.CompletePurchase: {Active: Verifies, Deactivated: Verifies, Compromised: Flagged},
	policy.VerifyTac:        {Active: Verifies, Deactivated: Verifies, Compromised: Flagged},
	policy.VerifyTacs:       {Active: Verifies, Deactivated: Verifies, Compromised: Flagged},

	policy.Replay: {Active: Verifies, Deactivated: Verifies, Compromised: Flagged}, // its verdict compares, and the entries say the rest

	policy.SettleLoad: {Active: Settles, Deactivated: Settles},

	policy.PersonaliseCard: {Active: Signs, Deactivated: Replaces},
	policy.PersonalisePSAM: {Active: Signs, Deactivated: Replaces},
}

// For is what a key in state s does for an operation. An operation that uses no key, and a state that is none, allow nothing.
func (s KeyState) For(op policy.Operation) Allowance {
	if s > Destroyed {
		return Nothing
	}
	return allowances[op][s]
}

// Signs reports whether the key signs.
func (a Allowance) Signs() bool { return a == Signs }

// Verifies reports whether the key verifies, flagged or not.
func (a Allowance) Verifies() bool { return a == Verifies || a == Flagged }

// Settles reports whether the key settles.
func (a Allowance) Settles() bool { return a == Settles }

// Replaces reports whether a control key may write the one that takes its place: one that signs may write that, too.
func (a Allowance) Replaces() bool { return a == Signs || a == Replaces }

// Flagged reports whether what the key verifies is flagged.
func (a Allowance) Flagged() bool { return a == Flagged }
