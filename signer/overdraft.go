package signer

import (
	"context"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
)

// OverdraftRequest is AuthorizeOverdraft as the caller wrote it; the fields are those of the API.
type OverdraftRequest struct {
	KeySet             string
	CardSerial         string
	IssuerID           string
	NewLimitFen        *uint64 // nil: left out, which is no limit of 0
	TerminalID         string
	InitializeResponse string
	Date, Time         string
}

// AuthorizeOverdraft verifies MAC1 of an INITIALIZE FOR UPDATE answer and issues MAC2 (EPURSE.md §5.4; DESIGN, §3). The purse is
// always ED: EP has no overdraft. Errors are those of AuthorizeLoad.
func (s *Signer) AuthorizeOverdraft(ctx context.Context, caller policy.Caller, r OverdraftRequest) (Authorization, error) {
	return withKeys(ctx, s, func(s view) (Authorization, error) {
		set, grant, err := s.permit(ctx, caller, policy.AuthorizeOverdraft, r.KeySet, audit.Entry{KeySet: r.KeySet}, r.asks())
		if err != nil {
			return Authorization{}, err
		}
		o, err := s.readOverdraft(set, r)
		if err != nil {
			return Authorization{}, err
		}
		return s.authorize(ctx, caller, grant, o)
	})
}

const newLimitField = "newLimitFen"

// readOverdraft is the only reader of an OverdraftRequest.
func (s view) readOverdraft(set *keySet, r OverdraftRequest) (online, error) {
	o, err := s.readOnline(overdrawing, set, purse.ED, onlineRequest{r.CardSerial, r.IssuerID, r.TerminalID, r.Date, r.Time})
	if err != nil {
		return o, err
	}
	if r.NewLimitFen == nil {
		return o, &purse.FieldError{Field: newLimitField, Problem: "missing, expected 0 to 16777215"}
	}
	limit, err := purse.NewLimit(newLimitField, *r.NewLimitFen)
	if err != nil {
		return o, err
	}
	init, err := purse.ParseOverdraftInitHex(r.InitializeResponse)
	if err != nil {
		return o, err
	}
	if err := o.answered(init.Balance, init.Counter, init.KVER, init.ALG, init.Random, init.Bytes()); err != nil {
		return o, err
	}
	o.amount, o.oldLimit = uint32(limit), uint32(init.OldLimit)
	o.complete = func(d purse.Date, t purse.Time, mac2 purse.MAC) purse.APDU {
		return purse.UpdateOverdraftLimit(limit, d, t, mac2)
	}
	o.layout, err = purse.NewOverdraft(init, limit, o.terminal)
	return o, err
}
