package signer

import (
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
)

// What policies are told of a request, before it is read as a whole: each attribute that is well-formed, in the form that the reader
// would give it, whatever else is wrong. So a terminal written with spaces or small letters meets the policies of that terminal; and a
// request that is not well-formed as a whole is refused by its reader after the permission, before anything is computed.

// context adds what is known of the key set, and the moment.
func (s view) context(set *keySet, asked policy.Context) policy.Context {
	asked.Profile, asked.Algorithm = set.Profile.Name(), set.Algorithm.String()
	asked.Time = s.now().In(set.Location)
	return asked
}

// asksMoney is of a request for an amount on a purse at a terminal.
func asksMoney(which purse.Purse, amountFen uint64, terminalID string) policy.Context {
	asked := asksPurse(which)
	if amount, err := readAmount(amountFen); err == nil {
		fen := uint64(amount)
		asked.Amount = &fen
	}
	if terminal, err := purse.ParseTerminal(terminalID); err == nil {
		asked.Terminal = terminal.String()
	}
	return asked
}

// asksPurse is of a request about a purse.
func asksPurse(which purse.Purse) policy.Context {
	if !which.Valid() {
		return policy.Context{}
	}
	return policy.Context{Purse: which.String()}
}

// asks is of AuthorizeOverdraft, whose amount is the new limit: 0 is one.
func (r *OverdraftRequest) asks() policy.Context {
	asked := asksMoney(purse.ED, 0, r.TerminalID)
	if r.NewLimitFen != nil {
		if limit, err := purse.NewLimit(newLimitField, *r.NewLimitFen); err == nil {
			fen := uint64(limit)
			asked.Amount = &fen
		}
	}
	return asked
}

// asksOfType is of a request whose type tells the purse, or leaves it to the card profile.
func (s view) asksOfType(keySetName, code string, amountFen uint64, terminalID string) policy.Context {
	var which purse.Purse
	if tti, err := purse.ParseTTI(code); err == nil {
		var tells bool
		if which, tells = tti.Purse(); !tells && s.keys.sets[keySetName] != nil {
			which = s.keys.sets[keySetName].Profile.UnloadPurse()
		}
	}
	return asksMoney(which, amountFen, terminalID)
}

// asksCommand is of SignCommand: each command is a right of its own, and so is an update whose data the card profile encrypts.
func (s view) asksCommand(r CommandRequest) policy.Context {
	set := s.keys.sets[r.KeySet]
	encrypted := set != nil && set.Profile.UpdateEncrypted()
	return policy.Context{Command: r.Command.right(encrypted), Permanent: r.Permanent}
}

// right is the command in policies; "" of one that is none.
func (c Command) right(encrypted bool) string {
	switch c {
	case CardBlock:
		return policy.CardBlock
	case ApplicationUnblock:
		return policy.ApplicationUnblock
	case ApplicationBlock:
		return policy.ApplicationBlock
	case PINUnblock:
		return policy.PINUnblock
	case ReloadPIN:
		return policy.ReloadPIN
	case UpdateBinary:
		if encrypted {
			return policy.EncryptedUpdateBinary
		}
		return policy.UpdateBinary
	case UpdateRecord:
		if encrypted {
			return policy.EncryptedUpdateRecord
		}
		return policy.UpdateRecord
	}
	return ""
}

// right is the direction in policies; "" of one that is none.
func (d Direction) right() string {
	switch d {
	case External:
		return policy.AuthenticateExternal
	case Internal:
		return policy.AuthenticateInternal
	}
	return ""
}
