package rpc

import (
	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// The names of the API are the house's own names with the enum's prefix, so the tables are made of the names; a test sees
// that every name on either side has its counterpart.

func readPurse(p v1.Purse) purse.Purse {
	switch p {
	case v1.Purse_PURSE_ED:
		return purse.ED
	case v1.Purse_PURSE_EP:
		return purse.EP
	}
	return 0
}

func writePurse(name string) v1.Purse { return v1.Purse(v1.Purse_value["PURSE_"+name]) }

func writeOutcome(o ledger.Outcome) v1.Outcome {
	return v1.Outcome(v1.Outcome_value["OUTCOME_"+string(o)])
}

func writeState(s store.State) v1.State { return v1.State(v1.State_value["STATE_"+string(s)]) }

func writeEvidence(e store.Evidence) v1.Evidence {
	return v1.Evidence(v1.Evidence_value["EVIDENCE_"+string(e)])
}

func writeBoundary(name string) v1.Boundary { return v1.Boundary(v1.Boundary_value["BOUNDARY_"+name]) }

func writeKey(k signer.KeyUsed) *v1.Key {
	if k.Set == "" {
		return nil
	}
	return &v1.Key{Set: k.Set, Kind: k.Kind, Version: uint32(k.Version), Kcv: k.KCV}
}

func writeSettled(proved []store.Proved) (settled []*v1.Settled) {
	for _, p := range proved {
		settled = append(settled, &v1.Settled{
			TransactionId: p.ID, Outcome: writeOutcome(ledger.OutcomeOf(p.State)), Evidence: writeEvidence(p.Evidence),
		})
	}
	return settled
}

func writeTransaction(t store.Listed) *v1.Transaction {
	a := t.Attempt
	serial, issuerID := signer.CardOf(t.Purse.Card)
	return &v1.Transaction{
		TransactionId: a.ID, State: writeState(a.State), Evidence: writeEvidence(a.Evidence), KeySet: t.Purse.KeySet,
		CardSerial: serial, IssuerId: issuerID, Purse: writePurse(t.Purse.Purse), Operation: a.Operation, Counter: uint32(a.Counter),
		AmountFen: a.Amount, BalanceFen: a.Balance, OldLimitFen: a.OldLimit, TerminalId: a.Terminal,
		Date: a.Date, Time: a.Time,
		Key: &v1.Key{
			Set: t.Purse.KeySet, Kind: kindOf(a.Operation).String(), Version: uint32(a.KeyVersion), Kcv: a.KCV,
		},
		Boundary: writeBoundary(a.Boundary), AuditIndex: a.AuditIndex, Contradicted: a.Contradicted,
	}
}

// kindOf is the kind of key that issues an operation's MAC2.
func kindOf(operation string) keyderive.Kind {
	switch operation {
	case ledger.Unload:
		return keyderive.KindUnload
	case ledger.Overdraft:
		return keyderive.KindOverdraft
	}
	return keyderive.KindLoad
}
