package main

import (
	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/purse"
)

// cacheUpdate is the record of the card that a compound purchase changes together with the balance.
type cacheUpdate struct {
	sfi, record byte
	data        []byte
}

// purchase is a purchase, a cash withdrawal or a compound purchase, with the signer as the terminal's secure module
// (EPURSE.md §5.2, §7). cache is of a compound purchase alone.
func (d *desk) purchase(tti purse.TTI, amount purse.Fen, cache *cacheUpdate) error {
	terminal, err := d.terminalID()
	if err != nil {
		return err
	}
	command, err := purse.InitializeForPurchase(d.card.Profile(), tti, amount, terminal)
	if err != nil {
		return err
	}
	answer, err := d.send(initializeName(tti), command, initializeLayout, purchaseAnswerLayout)
	if err != nil {
		return err
	}
	init, err := purse.ParsePurchaseInit(answer)
	if err != nil {
		return err
	}
	begun, err := d.beginPurchase(tti, amount, answer)
	if err != nil {
		return err
	}
	if cache != nil {
		if err := d.updateCache(*cache); err != nil {
			return err
		}
	}
	answer, err = d.complete("DEBIT FOR PURCHASE", begun.PurchaseId, begun.Command, debitLayout, debitAnswerLayout)
	if err != nil {
		return err
	}
	debited, err := purse.ParseDebitAnswer(answer)
	if err != nil {
		return err
	}
	if err := d.completePurchase(begun.PurchaseId, debited.MAC2, debited.TAC); err != nil {
		return err
	}
	receipt := d.receipt(tti, init.Counter, init.KVER, debited.TAC[:], begun)
	receipt.AmountFen, receipt.Counter, receipt.TerminalSerial = uint64(amount), "", begun.TerminalSerial
	return nil
}

func initializeName(tti purse.TTI) string {
	switch tti {
	case purse.TTICashWithdrawal:
		return "INITIALIZE FOR CASH"
	case purse.TTICompound:
		return "INITIALIZE FOR COMPOUND"
	}
	return "INITIALIZE FOR PURCHASE"
}

func (d *desk) beginPurchase(tti purse.TTI, amount purse.Fen, answer []byte) (*v1.BeginPurchaseResponse, error) {
	a, err := d.reader.BeginPurchase(d.ctx, &v1.BeginPurchaseRequest{
		KeySet: d.set, CardSerial: d.serial, Type: plainHex([]byte{byte(tti)}), AmountFen: uint64(amount), TerminalId: d.terminal,
		InitializeResponse: plainHex(answer), Date: d.date, Time: d.time,
	})
	if err != nil {
		return nil, err
	}
	what := plain(a.Outcome)
	if a.Mac1 != "" {
		what += "  TSN " + a.TerminalSerial + "  MAC1 " + a.Mac1
	}
	d.say("signer", "BeginPurchase", what+keyed(a.Key, a.Boundary))
	return a, expect(a.Outcome, v1.Outcome_OUTCOME_APPROVED, a.Detail)
}

func (d *desk) updateCache(c cacheUpdate) error {
	command, err := purse.UpdateCAPPCache(c.record, c.sfi<<3|4, c.data)
	if err != nil {
		return err
	}
	_, err = d.send("UPDATE CAPP CACHE", command, nil, nil)
	return err
}

func (d *desk) completePurchase(id string, mac2, tac purse.MAC) error {
	a, err := d.reader.CompletePurchase(d.ctx, &v1.CompletePurchaseRequest{PurchaseId: id, Mac2: plainHex(mac2[:]), Tac: plainHex(tac[:])})
	if err != nil {
		return err
	}
	d.say("signer", "CompletePurchase", plain(a.Outcome)+"  "+id)
	return expect(a.Outcome, v1.Outcome_OUTCOME_VERIFIED, a.Detail)
}
