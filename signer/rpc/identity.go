package rpc

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"

	"connectrpc.com/connect"

	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/policy"
)

// arrivalKey carries a request's arrival.
type arrivalKey struct{}

// arrival is a request whose caller is known. It is used by the request's goroutine alone.
type arrival struct {
	caller policy.Caller
	read   bool // its message was read, and the handler accounts for it
	passes passes

	trusted func(context.Context) error // judges the certificate, and whether the client is one still, again; nil outside a server

	control *http.ResponseController // of its time limits; nil outside a server
}

func arrivalOf(ctx context.Context) *arrival {
	if a, ok := ctx.Value(arrivalKey{}).(*arrival); ok {
		return a
	}
	return &arrival{}
}

// callerOf returns the caller of a request; the zero Caller, whom the policy knows nothing of, when there is none.
func callerOf(ctx context.Context) policy.Caller { return arrivalOf(ctx).caller }

// stillTrusted judges the caller's certificate, and whether he is a client that is not suspended, in the middle of a stream.
func (a *arrival) stillTrusted(ctx context.Context) error {
	if a.trusted == nil {
		return nil
	}
	return a.trusted(ctx)
}

// names are what a certificate calls its holder: exact URIs and DNS names, never its common name.
func names(certificate *x509.Certificate) []string {
	all := make([]string, 0, len(certificate.URIs)+len(certificate.DNSNames))
	for _, uri := range certificate.URIs {
		all = append(all, uri.String())
	}
	return append(all, certificate.DNSNames...)
}

// identified finds the caller of each request among the policy's clients before any handler runs, has it admitted, and accounts
// for the requests that no handler sees.
func (s *service) identified(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter(strictCodecs())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := s.identify(r)
		if err != nil {
			coded := wire(err)
			s.unread(r, caller, coded.Code().String(), err)
			_ = refuse.Write(w, r, coded)
			return
		}
		a := &arrival{caller: caller, control: http.NewResponseController(w)}
		a.trusted = func(context.Context) error { _, err := s.identify(r); return err }
		method := s.methodAt(r.URL.Path)
		err = s.admit(r, a, method)
		defer a.passes.leave()
		if err != nil {
			s.refuseBusy(w, r, refuse, caller, err)
			return
		}
		ctx := hsm.WithCaller(context.WithValue(r.Context(), arrivalKey{}, a), caller.Name())
		next.ServeHTTP(w, r.WithContext(ctx))
		if !a.read {
			s.unread(r, caller, codeMalformed, nil)
		}
	})
}

// admit takes a request's place before anything of it is read. A batch also waits for its slot here, before it is decoded; its bytes have
// been read by then, for those that lie unread fill the window of their connection, and the batch that has the slot may be on the same.
func (s *service) admit(r *http.Request, a *arrival, method string) (err error) {
	if a.passes, err = s.admission.enter(a.caller.Name(), method); err != nil || a.passes.batch == nil {
		return err
	}
	if r.Body, err = buffered(r.Body, r.ContentLength); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.timeout)
	defer cancel()
	return a.passes.batch.Wait(ctx, 1)
}

// Of the body of a batch.
var (
	errBody     = errors.New("the request's body did not come whole")
	errLongBody = fmt.Errorf("the request is longer than it may be, %d bytes", MaxBatchRequest)
)

// buffered is a body that has been read to its end; one that is longer than a batch may be is refused here, before it has a slot, for its rest
// may never come. length is what the caller says, below 0 nothing.
func buffered(body io.ReadCloser, length int64) (io.ReadCloser, error) {
	const most = MaxBatchRequest + 1<<10 // with what gRPC puts before a message
	var read bytes.Buffer
	read.Grow(int(min(max(length, 0), most)) + bytes.MinRead)
	switch n, err := io.CopyN(&read, body, most+1); {
	case n > most:
		return body, connect.NewError(connect.CodeResourceExhausted, errLongBody)
	case !errors.Is(err, io.EOF):
		return body, connect.NewError(connect.CodeInvalidArgument, errBody)
	}
	return struct {
		io.Reader
		io.Closer
	}{&read, body}, nil
}

// identify finds who calls. A refusal is recorded; but of one certificate, for one reason, once in a while only: who is no client, or was
// suspended, has no bounds in admission, and is not to fill the record.
func (s *service) identify(r *http.Request) (policy.Caller, error) {
	if err := s.trusted(r.Context(), r); err != nil {
		return policy.Caller{}, err
	}
	certificate := r.TLS.VerifiedChains[0][0]
	caller, err := s.signer.Identify(r.Context(), names(certificate))
	var denied *policy.Denied
	if errors.As(err, &denied) {
		if failed := s.recordRefusal(r.Context(), certificate, denied.Reason, denied.Reason); failed != nil {
			return caller, failed
		}
	}
	return caller, err
}
