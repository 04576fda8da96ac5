package signer

import (
	"context"
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
)

// UnloadRequest is AuthorizeUnload as the caller wrote it; the fields are those of the API.
type UnloadRequest struct {
	KeySet             string
	CardSerial         string
	IssuerID           string
	Purse              purse.Purse // the card profile's unload purse
	AmountFen          uint64
	TerminalID         string
	InitializeResponse string
	Date, Time         string
}

// AuthorizeUnload verifies MAC1 of an INITIALIZE FOR UNLOAD answer and issues MAC2 (EPURSE.md §5.3; DESIGN, §3). TTI 03 does not
// tell ED from EP, so only the purse that the card profile names is unloaded. Errors are those of AuthorizeLoad.
func (s *Signer) AuthorizeUnload(ctx context.Context, caller policy.Caller, r UnloadRequest) (Authorization, error) {
	return withKeys(ctx, s, func(s view) (Authorization, error) {
		set, grant, err := s.permit(ctx, caller, policy.AuthorizeUnload, r.KeySet, audit.Entry{KeySet: r.KeySet},
			asksMoney(r.Purse, r.AmountFen, r.TerminalID))
		if err != nil {
			return Authorization{}, err
		}
		o, err := s.readUnload(set, r)
		if err != nil {
			return Authorization{}, err
		}
		return s.authorize(ctx, caller, grant, o)
	})
}

// readUnload is the only reader of an UnloadRequest.
func (s view) readUnload(set *keySet, r UnloadRequest) (online, error) {
	o, err := s.readOnline(unloading, set, r.Purse, onlineRequest{r.CardSerial, r.IssuerID, r.TerminalID, r.Date, r.Time})
	if err != nil {
		return o, err
	}
	amount, err := readAmount(r.AmountFen)
	if err != nil {
		return o, err
	}
	init, err := purse.ParseUnloadInitHex(r.InitializeResponse)
	if err != nil {
		return o, err
	}
	if err := o.answered(init.Balance, init.Counter, init.KVER, init.ALG, init.Random, init.Bytes()); err != nil {
		return o, err
	}
	if amount > init.Balance {
		return o, &purse.FieldError{Field: "amountFen", Problem: fmt.Sprintf("%d is over the card's balance %d", amount, init.Balance)}
	}
	o.amount = uint32(amount)
	o.complete = purse.DebitForUnload
	o.layout, err = purse.NewUnload(set.Profile, init, r.Purse, amount, o.terminal)
	return o, err
}
