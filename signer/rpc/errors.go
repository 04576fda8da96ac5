package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/pursekeeper/pursekeeper/audit/past"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/admission"
	"github.com/pursekeeper/pursekeeper/store"
)

// errInternal is all that a caller learns of an error that this file does not know: the log has the rest.
var errInternal = errors.New("internal error")

// wire is the one place where an error becomes a code (DESIGN, §4). What it does not know is "internal error".
func wire(err error) *connect.Error {
	var (
		field    *purse.FieldError
		notFound *signer.NotFoundError
		denied   *policy.Denied
		already  *connect.Error
		boundary *signer.BoundaryError
		refused  *admission.Refused
	)
	switch {
	case errors.As(err, &already):
		return already
	case errors.As(err, &refused):
		return exhausted(refused)
	case errors.As(err, &denied):
		return connect.NewError(connect.CodePermissionDenied, errors.New(denied.Reason))
	case errors.As(err, &field):
		return connect.NewError(connect.CodeInvalidArgument, field)
	case errors.As(err, &notFound):
		// Not its name: a transaction's carries the card's number, and what an error says ends up in the logs of callers.
		return connect.NewError(connect.CodeNotFound, fmt.Errorf("%s: is not known", notFound.Field))
	case errors.As(err, &boundary):
		return connect.NewError(connect.CodeFailedPrecondition, boundary)
	case errors.Is(err, signer.ErrNoSealedRecord):
		return connect.NewError(connect.CodeFailedPrecondition, signer.ErrNoSealedRecord)
	case errors.Is(err, signer.ErrNoPast), errors.Is(err, past.ErrNotSealed):
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("this signer has no sealed record to replay from"))
	case errors.Is(err, signer.ErrNoOffice):
		return connect.NewError(connect.CodeFailedPrecondition, signer.ErrNoOffice)
	case errors.Is(err, hsm.ErrBusy):
		return again(errors.New("the token has more callers waiting than it may; try again"), time.Second)
	case errors.Is(err, hsm.ErrUnavailable), errors.Is(err, hsm.ErrPINLatched):
		return connect.NewError(connect.CodeUnavailable, errors.New("the token is away; nothing was signed"))
	case errors.Is(err, store.ErrUnavailable):
		return connect.NewError(connect.CodeUnavailable, errors.New("the database is away; nothing was signed"))
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, errors.New("the request took too long; ask again with the same request"))
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, errors.New("the caller left"))
	}
	return connect.NewError(connect.CodeInternal, errInternal)
}

// sumField is what package purse calls an amount that does not fit together with the balance.
const sumField = "amount"

// limitField is what package purse calls a new overdraft limit that does not fit together with the balance.
const limitField = "newLimit"

// inField names a field of a card's layouts as the request has it.
func inField(err error, layout, request string) error {
	var field *purse.FieldError
	if !errors.As(err, &field) || field.Field != layout {
		return err
	}
	renamed := *field
	renamed.Field = request
	return &renamed
}
