// Package rpc is the signer's API on the wire: the Connect handlers of DESIGN §4 and the server that carries them.
//
// A handler reads a message into the signer's own types, calls one operation, and writes the answer. It decides nothing.
// gRPC, gRPC-Web and JSON over HTTP come from the one handler, over TLS 1.3 with client certificates.
package rpc

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/internal/peers"
	"github.com/pursekeeper/pursekeeper/signer"
)

// MaxRequest is the largest request in bytes, but for VerifyTacs: MaxBatchRequest.
const MaxRequest = 64 << 10

// compressFrom is the length in bytes from which an answer is compressed for a caller that takes it so: pages of transactions and
// batches are, a MAC is not. Compressing every answer took a tenth of the processor time of a load over Transact.
const compressFrom = 4 << 10

// Config is what NewHandler needs; all fields but Admission must be set.
type Config struct {
	Signer  *signer.Signer
	Peers   *peers.Peers
	Metrics *Metrics
	Log     *slog.Logger
	Timeout time.Duration // of one request

	// Admission shares the service among clients; nil: one with the defaults.
	Admission *Admission
}

// service implements the generated handler interfaces.
type service struct {
	signer  *signer.Signer
	peers   *peers.Peers
	refused refusedCertificates
	metrics *Metrics
	log     *slog.Logger
	timeout time.Duration
	methods map[string]string // by path

	admission *Admission
	floods    floods

	unreadTime time.Duration // a stream whose answer is not read for so long is cut

	stopping chan struct{} // closed when the server begins to stop: streams take no more requests
	stopOnce sync.Once
}

// Handler is the whole public API.
type Handler struct {
	http.Handler
	service *service
}

// stop lets streams end; a request that is one message is let finish by the server itself.
func (h *Handler) stop() { h.service.stopOnce.Do(func() { close(h.service.stopping) }) }

// NewHandler returns the whole public API. It answers only requests whose TLS connection has a client certificate that is good at that
// moment.
func NewHandler(c Config) *Handler {
	admission := c.Admission
	if admission == nil {
		admission = defaultAdmission()
	}
	s := &service{
		signer: c.Signer, peers: c.Peers, metrics: c.Metrics, log: c.Log, timeout: c.Timeout, unreadTime: writeTimeout,
		stopping: make(chan struct{}),
		methods: methods(v1.File_pursekeeper_v1_signer_proto, v1.File_pursekeeper_v1_reader_proto, v1.File_pursekeeper_v1_key_proto,
			v1.File_pursekeeper_v1_audit_proto),
		admission: admission, floods: floods{counts: map[string]*unsaid{}},
	}
	options := []connect.HandlerOption{
		strictCodecs(),
		connect.WithReadMaxBytes(MaxRequest),
		unpackAtMost(MaxRequest),
		batchLimit(),
		connect.WithCompressMinBytes(compressFrom),
		connect.WithInterceptors(connect.UnaryInterceptorFunc(s.observed)),
		connect.WithRecover(func(_ context.Context, spec connect.Spec, _ http.Header, bug any) error {
			s.log.Error("bug: a handler panicked", "method", methodOf(spec.Procedure), "panic", bug, "at", frames(3))
			return connect.NewError(connect.CodeInternal, errInternal)
		}),
	}
	mux := http.NewServeMux()
	mux.Handle(pursekeeperv1connect.NewSignerServiceHandler(s, options...))
	mux.Handle(pursekeeperv1connect.NewReaderServiceHandler(s, options...))
	mux.Handle(pursekeeperv1connect.NewKeyServiceHandler(s, options...))
	mux.Handle(pursekeeperv1connect.NewAuditServiceHandler(s, options...))
	return &Handler{s.identified(mux), s}
}

func (s *service) AuthorizeLoad(ctx context.Context, m *v1.AuthorizeLoadRequest) (*v1.AuthorizeLoadResponse, error) {
	a, err := s.signer.AuthorizeLoad(ctx, callerOf(ctx), signer.LoadRequest{
		KeySet: m.KeySet, CardSerial: m.CardSerial, IssuerID: m.IssuerId, Purse: readPurse(m.Purse), AmountFen: m.AmountFen,
		TerminalID: m.TerminalId, InitializeResponse: m.InitializeResponse, Date: m.Date, Time: m.Time,
	})
	if err != nil {
		return nil, inField(err, sumField, "amountFen")
	}
	return &v1.AuthorizeLoadResponse{
		Outcome: writeOutcome(a.Outcome), Mac2: a.MAC2, Command: a.Command, TransactionId: a.TransactionID,
		Key: writeKey(a.Key), Boundary: writeBoundary(a.Key.Boundary), AuditIndex: a.AuditIndex, Date: a.Date, Time: a.Time,
		Settled: writeSettled(a.Settled), Detail: a.Detail,
	}, nil
}

func (s *service) ConfirmLoad(ctx context.Context, m *v1.ConfirmLoadRequest) (*v1.ConfirmLoadResponse, error) {
	c, err := s.signer.ConfirmLoad(ctx, callerOf(ctx), m.TransactionId, m.Tac)
	if err != nil {
		return nil, err
	}
	return &v1.ConfirmLoadResponse{
		Outcome: writeOutcome(c.Outcome), TransactionId: c.TransactionID, Key: writeKey(c.Key),
		Boundary: writeBoundary(c.Key.Boundary), AuditIndex: c.AuditIndex, Settled: writeSettled(c.Settled), Detail: c.Detail,
	}, nil
}

func (s *service) AuthorizeUnload(ctx context.Context, m *v1.AuthorizeUnloadRequest) (*v1.AuthorizeUnloadResponse, error) {
	a, err := s.signer.AuthorizeUnload(ctx, callerOf(ctx), signer.UnloadRequest{
		KeySet: m.KeySet, CardSerial: m.CardSerial, IssuerID: m.IssuerId, Purse: readPurse(m.Purse), AmountFen: m.AmountFen,
		TerminalID: m.TerminalId, InitializeResponse: m.InitializeResponse, Date: m.Date, Time: m.Time,
	})
	if err != nil {
		return nil, inField(err, sumField, "amountFen")
	}
	return &v1.AuthorizeUnloadResponse{
		Outcome: writeOutcome(a.Outcome), Mac2: a.MAC2, Command: a.Command, TransactionId: a.TransactionID,
		Key: writeKey(a.Key), Boundary: writeBoundary(a.Key.Boundary), AuditIndex: a.AuditIndex, Date: a.Date, Time: a.Time,
		Settled: writeSettled(a.Settled), Detail: a.Detail,
	}, nil
}

func (s *service) ConfirmUnload(ctx context.Context, m *v1.ConfirmUnloadRequest) (*v1.ConfirmUnloadResponse, error) {
	c, err := s.signer.ConfirmUnload(ctx, callerOf(ctx), m.TransactionId, m.Mac3)
	if err != nil {
		return nil, err
	}
	return &v1.ConfirmUnloadResponse{
		Outcome: writeOutcome(c.Outcome), TransactionId: c.TransactionID, Key: writeKey(c.Key),
		Boundary: writeBoundary(c.Key.Boundary), AuditIndex: c.AuditIndex, Settled: writeSettled(c.Settled), Detail: c.Detail,
	}, nil
}

func (s *service) AuthorizeOverdraft(ctx context.Context, m *v1.AuthorizeOverdraftRequest) (*v1.AuthorizeOverdraftResponse, error) {
	a, err := s.signer.AuthorizeOverdraft(ctx, callerOf(ctx), signer.OverdraftRequest{
		KeySet: m.KeySet, CardSerial: m.CardSerial, IssuerID: m.IssuerId, NewLimitFen: m.NewLimitFen,
		TerminalID: m.TerminalId, InitializeResponse: m.InitializeResponse, Date: m.Date, Time: m.Time,
	})
	if err != nil {
		return nil, inField(err, limitField, "newLimitFen")
	}
	return &v1.AuthorizeOverdraftResponse{
		Outcome: writeOutcome(a.Outcome), Mac2: a.MAC2, Command: a.Command, TransactionId: a.TransactionID,
		Key: writeKey(a.Key), Boundary: writeBoundary(a.Key.Boundary), AuditIndex: a.AuditIndex, Date: a.Date, Time: a.Time,
		Settled: writeSettled(a.Settled), Detail: a.Detail,
	}, nil
}

func (s *service) ConfirmOverdraft(ctx context.Context, m *v1.ConfirmOverdraftRequest) (*v1.ConfirmOverdraftResponse, error) {
	c, err := s.signer.ConfirmOverdraft(ctx, callerOf(ctx), m.TransactionId, m.Tac)
	if err != nil {
		return nil, err
	}
	return &v1.ConfirmOverdraftResponse{
		Outcome: writeOutcome(c.Outcome), TransactionId: c.TransactionID, Key: writeKey(c.Key),
		Boundary: writeBoundary(c.Key.Boundary), AuditIndex: c.AuditIndex, Settled: writeSettled(c.Settled), Detail: c.Detail,
	}, nil
}

func (s *service) BeginSettlement(ctx context.Context, m *v1.BeginSettlementRequest) (*v1.BeginSettlementResponse, error) {
	b, err := s.signer.BeginSettlement(ctx, callerOf(ctx), m.KeySet, m.CardSerial, m.IssuerId, readPurse(m.Purse))
	if err != nil {
		return nil, err
	}
	answer := &v1.BeginSettlementResponse{
		SettlementId: b.ID, TerminalId: b.TerminalID, AmountFen: b.AmountFen, Command: b.Command, AuditIndex: b.AuditIndex,
		Outcome: writeOutcome(b.Outcome), Detail: b.Detail,
	}
	if b.ID != "" {
		answer.ExpiresAt = b.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return answer, nil
}

func (s *service) SettleLoad(ctx context.Context, m *v1.SettleLoadRequest) (*v1.SettleLoadResponse, error) {
	a, err := s.signer.SettleLoad(ctx, callerOf(ctx), m.SettlementId, m.InitializeResponse)
	if err != nil {
		return nil, inField(err, sumField, "initializeResponse")
	}
	return &v1.SettleLoadResponse{
		Outcome: writeOutcome(a.Outcome), Settled: writeSettled(a.Settled), Key: writeKey(a.Key),
		Boundary: writeBoundary(a.Key.Boundary), AuditIndex: a.AuditIndex, Detail: a.Detail,
	}, nil
}

func (s *service) GetTransaction(ctx context.Context, m *v1.GetTransactionRequest) (*v1.GetTransactionResponse, error) {
	t, err := s.signer.Transaction(ctx, callerOf(ctx), m.TransactionId)
	if err != nil {
		return nil, err
	}
	return &v1.GetTransactionResponse{Transaction: writeTransaction(t)}, nil
}

func (s *service) ListTransactions(ctx context.Context, m *v1.ListTransactionsRequest) (*v1.ListTransactionsResponse, error) {
	page, next, err := s.signer.Transactions(ctx, callerOf(ctx), signer.ListRequest{
		KeySet: m.KeySet, CardSerial: m.CardSerial, IssuerID: m.IssuerId, Purse: readPurse(m.Purse), OpenOnly: m.OpenOnly,
		PageSize: m.PageSize, PageToken: m.PageToken,
	})
	if err != nil {
		return nil, err
	}
	answer := &v1.ListTransactionsResponse{NextPageToken: next}
	for _, t := range page {
		answer.Transactions = append(answer.Transactions, writeTransaction(t))
	}
	return answer, nil
}

func (s *service) UnlockCard(ctx context.Context, m *v1.UnlockCardRequest) (*v1.UnlockCardResponse, error) {
	u, err := s.signer.UnlockCard(ctx, callerOf(ctx), m.KeySet, m.CardSerial, m.IssuerId, m.Reason)
	if err != nil {
		return nil, err
	}
	return &v1.UnlockCardResponse{WasLocked: u.WasLocked, AuditIndex: u.AuditIndex}, nil
}
