package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// provable is a transaction or a purchase as its id tells it: KEYSET/CARD/PURSE/OPERATION/COUNTER/R.
type provable struct {
	id        string
	operation string
	tti       purse.TTI
	counter   purse.Counter
}

func parseProvable(id string) (p provable, err error) {
	p.id = id
	parts := strings.Split(id, "/")
	if len(parts) < 5 {
		return p, fmt.Errorf("transaction id %q: expected KEYSET/CARD/PURSE/OPERATION/COUNTER/R", id)
	}
	parts = parts[len(parts)-4:] // an issuer id may stand before the card
	of, err := purse.ParsePurse(parts[0])
	if err != nil {
		return p, fmt.Errorf("transaction id %q: %w", id, err)
	}
	p.operation = parts[1]
	types := map[string]purse.TTI{
		ledger.Load: of.LoadTTI(), ledger.Unload: purse.TTIUnload, ledger.Overdraft: purse.TTIOverdraft,
		ledger.Purchase: of.PurchaseTTI(), ledger.Cash: purse.TTICashWithdrawal, ledger.Compound: purse.TTICompound,
	}
	if p.tti = types[p.operation]; p.tti == 0 {
		return p, fmt.Errorf("transaction id %q: unknown operation %q", id, p.operation)
	}
	p.counter, err = purse.ParseCounter(parts[2])
	return p, err
}

// prove asks the card for the proof of a transaction whose answer was lost, and gives it to the signer (EPURSE.md §5.5).
func (d *desk) prove(p provable) error {
	proof, err := d.transactionProve(p.tti, p.counter)
	if err != nil {
		return err
	}
	switch p.operation {
	case ledger.Load:
		return d.confirmLoad(p.id, plainHex(proof.TAC[:]))
	case ledger.Unload:
		return d.confirmUnload(p.id, plainHex(proof.MAC[:])) // MAC3: an unload has no TAC
	case ledger.Overdraft:
		return d.confirmOverdraft(p.id, plainHex(proof.TAC[:]))
	}
	return d.completePurchase(p.id, proof.MAC, proof.TAC)
}

func (d *desk) transactionProve(tti purse.TTI, counter purse.Counter) (proof purse.ProveAnswer, err error) {
	command, err := purse.TransactionProve(tti, counter)
	if err != nil {
		return proof, err
	}
	answer, err := d.send("GET TRANSACTION PROVE", command, nil, proveLayout)
	if err != nil {
		return proof, err
	}
	return purse.ParseProveAnswer(answer)
}

// open lists the card's transactions that the signer has open, the newest first: of several at one counter it is the one that the
// card can have taken.
func (d *desk) open() (all []provable, err error) {
	request := &v1.ListTransactionsRequest{KeySet: d.set, CardSerial: d.serial, OpenOnly: true}
	for {
		page, err := d.signer.ListTransactions(d.ctx, request)
		if err != nil {
			return nil, err
		}
		for _, t := range page.Transactions {
			p, err := parseProvable(t.TransactionId)
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			break
		}
	}
	slices.Reverse(all)
	return all, nil
}

// proveOpen proves what the signer has open. At one counter a purse takes one transaction: the first proof there settles the rest.
func (d *desk) proveOpen() error {
	open, err := d.open()
	if err != nil {
		return err
	}
	if len(open) == 0 {
		d.say("signer", "ListTransactions", "nothing is open")
		return nil
	}
	told := map[string]bool{} // by place
	var silent []provable
	for _, p := range open {
		if told[p.place()] {
			continue
		}
		d.say("signer", "ListTransactions", "open  "+p.id)
		var refused *cardError
		err := d.prove(p)
		switch {
		case errors.As(err, &refused) && refused.sw == purse.SWNoProve:
			silent = append(silent, p)
		case err != nil:
			return err
		default:
			told[p.place()] = true
		}
	}
	for _, p := range silent {
		if !told[p.place()] {
			return fmt.Errorf("the card has no proof of %s: it did not take it, or has forgotten it; \"card settle\" tells of loads", p.id)
		}
	}
	return nil
}

// place is the card's purse and counter.
func (p provable) place() string {
	parts := strings.Split(p.id, "/")
	return parts[len(parts)-4] + " " + p.counter.String()
}

// settle learns by a fresh INITIALIZE with a one-time terminal number which loads the card did not take (DESIGN §3).
func (d *desk) settle(p purse.Purse) ([]*v1.Settled, error) {
	begun, err := d.signer.BeginSettlement(d.ctx, &v1.BeginSettlementRequest{KeySet: d.set, CardSerial: d.serial, Purse: apiPurse(p)})
	if err != nil {
		return nil, err
	}
	if begun.SettlementId == "" {
		return nil, &refusedError{begun.Outcome, begun.Detail}
	}
	d.say("signer", "BeginSettlement", "one-time terminal "+begun.TerminalId)
	terminal, err := purse.ParseTerminal(begun.TerminalId)
	if err != nil {
		return nil, err
	}
	init, err := d.initializeLoad(p, purse.Fen(begun.AmountFen), terminal)
	if err != nil {
		return nil, err
	}
	a, err := d.signer.SettleLoad(d.ctx, &v1.SettleLoadRequest{SettlementId: begun.SettlementId, InitializeResponse: plainHex(init.Bytes())})
	if err != nil {
		return nil, err
	}
	d.say("signer", "SettleLoad", plain(a.Outcome))
	d.proved(a.Settled)
	return a.Settled, expect(a.Outcome, v1.Outcome_OUTCOME_VERIFIED, a.Detail)
}
