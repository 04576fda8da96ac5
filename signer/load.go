package signer

import (
	"context"
	"fmt"
	"math"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
)

// LoadRequest is AuthorizeLoad as the caller wrote it; the fields are those of the API.
type LoadRequest struct {
	KeySet             string
	CardSerial         string
	IssuerID           string
	Purse              purse.Purse
	AmountFen          uint64
	TerminalID         string
	InitializeResponse string
	Date, Time         string
}

// AuthorizeLoad verifies MAC1 of an INITIALIZE FOR LOAD answer and issues MAC2 (EPURSE.md §5.1; DESIGN, §3).
//
// Errors: *purse.FieldError for malformed input, *NotFoundError, *policy.Denied, and those of the token and the store, after
// which nothing was signed. Every other refusal is an Outcome.
func (s *Signer) AuthorizeLoad(ctx context.Context, caller policy.Caller, r LoadRequest) (Authorization, error) {
	return withKeys(ctx, s, func(s view) (Authorization, error) {
		set, grant, err := s.permit(ctx, caller, policy.AuthorizeLoad, r.KeySet, audit.Entry{KeySet: r.KeySet},
			asksMoney(r.Purse, r.AmountFen, r.TerminalID))
		if err != nil {
			return Authorization{}, err
		}
		o, err := s.readLoad(set, r)
		if err != nil {
			return Authorization{}, err
		}
		return s.authorize(ctx, caller, grant, o)
	})
}

// readLoad is the only reader of a LoadRequest.
func (s view) readLoad(set *keySet, r LoadRequest) (online, error) {
	o, err := s.readOnline(loading, set, r.Purse, onlineRequest{r.CardSerial, r.IssuerID, r.TerminalID, r.Date, r.Time})
	if err != nil {
		return o, err
	}
	amount, err := readAmount(r.AmountFen)
	if err != nil {
		return o, err
	}
	init, err := purse.ParseLoadInitHex(r.InitializeResponse)
	if err != nil {
		return o, err
	}
	if err := o.answered(init.Balance, init.Counter, init.KVER, init.ALG, init.Random, init.Bytes()); err != nil {
		return o, err
	}
	if amount > math.MaxUint32-init.Balance {
		return o, &purse.FieldError{
			Field: "amountFen", Problem: fmt.Sprintf("%d and the card's balance %d are together over four bytes", amount, init.Balance),
		}
	}
	o.amount = uint32(amount)
	o.complete = func(d purse.Date, t purse.Time, mac2 purse.MAC) purse.APDU {
		return purse.CreditForLoad(set.Profile, d, t, mac2)
	}
	o.layout, err = purse.NewLoad(init, r.Purse, amount, o.terminal)
	return o, err
}
