package rpc

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/purse"
)

// run is one request of a stream, bound to its method.
type run func(context.Context) (answer any, err error)

// bound finds the method of a stream's request, by its name in the API. What the method answers is put into answer.
func (s *service) bound(m *v1.TransactRequest, answer *v1.TransactResponse) (method string, call run) {
	switch r := m.Request.(type) {
	case *v1.TransactRequest_AuthorizeLoad:
		return bind(pursekeeperv1connect.SignerServiceAuthorizeLoadProcedure, s.AuthorizeLoad, r.AuthorizeLoad,
			func(a *v1.AuthorizeLoadResponse) {
				answer.Response = &v1.TransactResponse_AuthorizeLoad{AuthorizeLoad: a}
			})
	case *v1.TransactRequest_ConfirmLoad:
		return bind(pursekeeperv1connect.SignerServiceConfirmLoadProcedure, s.ConfirmLoad, r.ConfirmLoad,
			func(a *v1.ConfirmLoadResponse) { answer.Response = &v1.TransactResponse_ConfirmLoad{ConfirmLoad: a} })
	case *v1.TransactRequest_BeginSettlement:
		return bind(pursekeeperv1connect.SignerServiceBeginSettlementProcedure, s.BeginSettlement, r.BeginSettlement,
			func(a *v1.BeginSettlementResponse) {
				answer.Response = &v1.TransactResponse_BeginSettlement{BeginSettlement: a}
			})
	case *v1.TransactRequest_SettleLoad:
		return bind(pursekeeperv1connect.SignerServiceSettleLoadProcedure, s.SettleLoad, r.SettleLoad,
			func(a *v1.SettleLoadResponse) { answer.Response = &v1.TransactResponse_SettleLoad{SettleLoad: a} })
	case *v1.TransactRequest_GetTransaction:
		return bind(pursekeeperv1connect.SignerServiceGetTransactionProcedure, s.GetTransaction, r.GetTransaction,
			func(a *v1.GetTransactionResponse) {
				answer.Response = &v1.TransactResponse_GetTransaction{GetTransaction: a}
			})
	case *v1.TransactRequest_ListTransactions:
		return bind(pursekeeperv1connect.SignerServiceListTransactionsProcedure, s.listInStream, r.ListTransactions,
			func(a *v1.ListTransactionsResponse) {
				answer.Response = &v1.TransactResponse_ListTransactions{ListTransactions: a}
			})
	case *v1.TransactRequest_AuthorizeUnload:
		return bind(pursekeeperv1connect.SignerServiceAuthorizeUnloadProcedure, s.AuthorizeUnload, r.AuthorizeUnload,
			func(a *v1.AuthorizeUnloadResponse) {
				answer.Response = &v1.TransactResponse_AuthorizeUnload{AuthorizeUnload: a}
			})
	case *v1.TransactRequest_ConfirmUnload:
		return bind(pursekeeperv1connect.SignerServiceConfirmUnloadProcedure, s.ConfirmUnload, r.ConfirmUnload,
			func(a *v1.ConfirmUnloadResponse) {
				answer.Response = &v1.TransactResponse_ConfirmUnload{ConfirmUnload: a}
			})
	case *v1.TransactRequest_AuthorizeOverdraft:
		return bind(pursekeeperv1connect.SignerServiceAuthorizeOverdraftProcedure, s.AuthorizeOverdraft, r.AuthorizeOverdraft,
			func(a *v1.AuthorizeOverdraftResponse) {
				answer.Response = &v1.TransactResponse_AuthorizeOverdraft{AuthorizeOverdraft: a}
			})
	case *v1.TransactRequest_ConfirmOverdraft:
		return bind(pursekeeperv1connect.SignerServiceConfirmOverdraftProcedure, s.ConfirmOverdraft, r.ConfirmOverdraft,
			func(a *v1.ConfirmOverdraftResponse) {
				answer.Response = &v1.TransactResponse_ConfirmOverdraft{ConfirmOverdraft: a}
			})
	}
	return s.boundOffline(m, answer)
}

// boundOffline is bound for what moves no counter.
func (s *service) boundOffline(m *v1.TransactRequest, answer *v1.TransactResponse) (method string, call run) {
	switch r := m.Request.(type) {
	case *v1.TransactRequest_VerifyTac:
		return bind(pursekeeperv1connect.SignerServiceVerifyTacProcedure, s.VerifyTac, r.VerifyTac,
			func(a *v1.VerifyTacResponse) { answer.Response = &v1.TransactResponse_VerifyTac{VerifyTac: a} })
	case *v1.TransactRequest_VerifyTacs:
		return bind(pursekeeperv1connect.SignerServiceVerifyTacsProcedure, s.VerifyTacs, r.VerifyTacs,
			func(a *v1.VerifyTacsResponse) { answer.Response = &v1.TransactResponse_VerifyTacs{VerifyTacs: a} })
	case *v1.TransactRequest_SignCommand:
		return bind(pursekeeperv1connect.SignerServiceSignCommandProcedure, s.SignCommand, r.SignCommand,
			func(a *v1.SignCommandResponse) { answer.Response = &v1.TransactResponse_SignCommand{SignCommand: a} })
	case *v1.TransactRequest_AuthenticateCard:
		return bind(pursekeeperv1connect.SignerServiceAuthenticateCardProcedure, s.AuthenticateCard, r.AuthenticateCard,
			func(a *v1.AuthenticateCardResponse) {
				answer.Response = &v1.TransactResponse_AuthenticateCard{AuthenticateCard: a}
			})
	case *v1.TransactRequest_PersonaliseCard:
		return bind(pursekeeperv1connect.SignerServicePersonaliseCardProcedure, s.PersonaliseCard, r.PersonaliseCard,
			func(a *v1.PersonaliseCardResponse) {
				answer.Response = &v1.TransactResponse_PersonaliseCard{PersonaliseCard: a}
			})
	case *v1.TransactRequest_PersonalisePsam:
		return bind(pursekeeperv1connect.SignerServicePersonalisePSAMProcedure, s.PersonalisePSAM, r.PersonalisePsam,
			func(a *v1.PersonalisePSAMResponse) {
				answer.Response = &v1.TransactResponse_PersonalisePsam{PersonalisePsam: a}
			})
	}
	return methodUnknown, func(context.Context) (any, error) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errEmpty)
	}
}

// streamPage bounds a page in a stream, where sixty-four answers may wait for a caller who does not read.
const streamPage = 100

func (s *service) listInStream(ctx context.Context, m *v1.ListTransactionsRequest) (*v1.ListTransactionsResponse, error) {
	if m.PageSize > streamPage {
		return nil, &purse.FieldError{Field: "pageSize", Problem: fmt.Sprintf("is %d, expected 1 to %d in a stream", m.PageSize, streamPage)}
	}
	return s.ListTransactions(ctx, m)
}

func bind[Q, A any](
	procedure string, method func(context.Context, *Q) (*A, error), request *Q, put func(*A),
) (string, run) {
	return methodOf(procedure), func(ctx context.Context) (any, error) {
		answer, err := method(ctx, request)
		if err != nil {
			return nil, err
		}
		put(answer)
		return answer, nil
	}
}
