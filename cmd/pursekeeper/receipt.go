package main

import (
	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/purse"
)

// receiptNames are what a receipt's ref begins with.
var receiptNames = map[purse.TTI]string{
	purse.TTILoadED: "load", purse.TTILoadEP: "load", purse.TTICashWithdrawal: "cash", purse.TTIPurchaseED: "purchase",
	purse.TTIPurchaseEP: "purchase", purse.TTIOverdraft: "overdraft", purse.TTICompound: "compound",
}

// dated is the answer to an authorisation or to BeginPurchase, which says what date and time its MAC covers.
type dated interface {
	GetDate() string
	GetTime() string
}

// receipt keeps a TAC with what every type covers; the caller fills in what only its type does. An online type's counter is ONSN.
func (d *desk) receipt(tti purse.TTI, counter purse.Counter, version purse.KVER, tac []byte, when dated) *v1.VerifyTacRequest {
	r := &v1.VerifyTacRequest{
		KeySet: d.set, CardSerial: d.serial, KeyVersion: uint32(version), Type: plainHex([]byte{byte(tti)}),
		TerminalId: d.terminal, Counter: counter.String(), Date: when.GetDate(), Time: when.GetTime(), Tac: plainHex(tac),
	}
	r.Ref = receiptNames[tti] + " " + counter.String()
	d.receipts = append(d.receipts, r)
	return r
}
