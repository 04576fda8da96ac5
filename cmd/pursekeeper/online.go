package main

import (
	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/purse"
)

// authorised is the answer to AuthorizeLoad, AuthorizeUnload or AuthorizeOverdraft.
type authorised interface {
	GetOutcome() v1.Outcome
	GetMac2() string
	GetCommand() string
	GetTransactionId() string
	GetKey() *v1.Key
	GetBoundary() v1.Boundary
	GetDate() string
	GetTime() string
	GetSettled() []*v1.Settled
	GetDetail() string
}

// confirmed is the answer to ConfirmLoad, ConfirmUnload or ConfirmOverdraft.
type confirmed interface {
	GetOutcome() v1.Outcome
	GetSettled() []*v1.Settled
	GetDetail() string
}

// authorises traces an authorisation.
func (d *desk) authorises(method string, a authorised) {
	what := plain(a.GetOutcome())
	if a.GetMac2() != "" {
		what += "  MAC2 " + a.GetMac2()
	}
	d.say("signer", method, what+keyed(a.GetKey(), a.GetBoundary()))
	d.proved(a.GetSettled())
}

// confirms traces a confirmation, which must say VERIFIED.
func (d *desk) confirms(method, id string, c confirmed) error {
	d.say("signer", method, plain(c.GetOutcome())+"  "+id)
	d.proved(c.GetSettled())
	return expect(c.GetOutcome(), v1.Outcome_OUTCOME_VERIFIED, c.GetDetail())
}

// load is a whole load of p (EPURSE.md §5.1).
func (d *desk) load(p purse.Purse, amount purse.Fen) error {
	terminal, err := d.terminalID()
	if err != nil {
		return err
	}
	init, err := d.initializeLoad(p, amount, terminal)
	if err != nil {
		return err
	}
	a, err := d.authorizeLoad(d.loadRequest(p, amount, init))
	if err != nil {
		return err
	}
	if err := expect(a.Outcome, v1.Outcome_OUTCOME_APPROVED, a.Detail); err != nil {
		return err
	}
	return d.completeLoad(p, amount, init, a)
}

func (d *desk) initializeLoad(p purse.Purse, amount purse.Fen, terminal purse.Terminal) (init purse.LoadInit, err error) {
	command, err := purse.InitializeForLoad(d.card.Profile(), p, amount, terminal)
	if err != nil {
		return init, err
	}
	answer, err := d.send("INITIALIZE FOR LOAD", command, initializeLayout, initAnswerLayout)
	if err != nil {
		return init, err
	}
	return purse.ParseLoadInit(answer)
}

func (d *desk) loadRequest(p purse.Purse, amount purse.Fen, init purse.LoadInit) *v1.AuthorizeLoadRequest {
	return &v1.AuthorizeLoadRequest{
		KeySet: d.set, CardSerial: d.serial, Purse: apiPurse(p), AmountFen: uint64(amount), TerminalId: d.terminal,
		InitializeResponse: plainHex(init.Bytes()), Date: d.date, Time: d.time,
	}
}

func (d *desk) authorizeLoad(r *v1.AuthorizeLoadRequest) (*v1.AuthorizeLoadResponse, error) {
	a, err := d.signer.AuthorizeLoad(d.ctx, r)
	if err != nil {
		return nil, err
	}
	d.authorises("AuthorizeLoad", a)
	return a, nil
}

// completeLoad gives the card the approved command and the signer the card's TAC.
func (d *desk) completeLoad(p purse.Purse, amount purse.Fen, init purse.LoadInit, a authorised) error {
	tac, err := d.complete("CREDIT FOR LOAD", a.GetTransactionId(), a.GetCommand(), completionLayout, nil)
	if err != nil {
		return err
	}
	if err := d.confirmLoad(a.GetTransactionId(), plainHex(tac)); err != nil {
		return err
	}
	receipt := d.receipt(p.LoadTTI(), init.Counter, init.KVER, tac, a)
	receipt.AmountFen, receipt.BalanceFen = uint64(amount), fen(init.Balance)
	return nil
}

func (d *desk) confirmLoad(id, tac string) error {
	c, err := d.signer.ConfirmLoad(d.ctx, &v1.ConfirmLoadRequest{TransactionId: id, Tac: tac})
	if err != nil {
		return err
	}
	return d.confirms("ConfirmLoad", id, c)
}

// unload takes money off the card's one unload purse (EPURSE.md §5.3). MAC3 alone proves that it is gone.
func (d *desk) unload(p purse.Purse, amount purse.Fen) error {
	terminal, err := d.terminalID()
	if err != nil {
		return err
	}
	command, err := purse.InitializeForUnload(d.card.Profile(), p, amount, terminal)
	if err != nil {
		return err
	}
	answer, err := d.send("INITIALIZE FOR UNLOAD", command, initializeLayout, initAnswerLayout)
	if err != nil {
		return err
	}
	a, err := d.signer.AuthorizeUnload(d.ctx, &v1.AuthorizeUnloadRequest{
		KeySet: d.set, CardSerial: d.serial, Purse: apiPurse(p), AmountFen: uint64(amount), TerminalId: d.terminal,
		InitializeResponse: plainHex(answer), Date: d.date, Time: d.time,
	})
	if err != nil {
		return err
	}
	d.authorises("AuthorizeUnload", a)
	if err := expect(a.Outcome, v1.Outcome_OUTCOME_APPROVED, a.Detail); err != nil {
		return err
	}
	mac3, err := d.complete("DEBIT FOR UNLOAD", a.TransactionId, a.Command, completionLayout, nil)
	if err != nil {
		return err
	}
	return d.confirmUnload(a.TransactionId, plainHex(mac3))
}

func (d *desk) confirmUnload(id, mac3 string) error {
	c, err := d.signer.ConfirmUnload(d.ctx, &v1.ConfirmUnloadRequest{TransactionId: id, Mac3: mac3})
	if err != nil {
		return err
	}
	return d.confirms("ConfirmUnload", id, c)
}

// overdraft gives the card a new overdraft limit (EPURSE.md §5.4).
func (d *desk) overdraft(newLimit purse.Limit) error {
	terminal, err := d.terminalID()
	if err != nil {
		return err
	}
	answer, err := d.send("INITIALIZE FOR UPDATE", purse.InitializeForUpdate(d.card.Profile(), terminal), initializeLimLayout, limitAnswerLayout)
	if err != nil {
		return err
	}
	init, err := purse.ParseOverdraftInit(answer)
	if err != nil {
		return err
	}
	limit := uint64(newLimit)
	a, err := d.signer.AuthorizeOverdraft(d.ctx, &v1.AuthorizeOverdraftRequest{
		KeySet: d.set, CardSerial: d.serial, NewLimitFen: &limit, TerminalId: d.terminal,
		InitializeResponse: plainHex(answer), Date: d.date, Time: d.time,
	})
	if err != nil {
		return err
	}
	d.authorises("AuthorizeOverdraft", a)
	if err := expect(a.Outcome, v1.Outcome_OUTCOME_APPROVED, a.Detail); err != nil {
		return err
	}
	tac, err := d.complete("UPDATE OVERDRAFT LIMIT", a.TransactionId, a.Command, limitLayout, nil)
	if err != nil {
		return err
	}
	if err := d.confirmOverdraft(a.TransactionId, plainHex(tac)); err != nil {
		return err
	}
	receipt := d.receipt(purse.TTIOverdraft, init.Counter, init.KVER, tac, a)
	old := uint64(init.OldLimit)
	receipt.BalanceFen, receipt.OldLimitFen, receipt.NewLimitFen = fen(init.Balance), &old, &limit
	return nil
}

func (d *desk) confirmOverdraft(id, tac string) error {
	c, err := d.signer.ConfirmOverdraft(d.ctx, &v1.ConfirmOverdraftRequest{TransactionId: id, Tac: tac})
	if err != nil {
		return err
	}
	return d.confirms("ConfirmOverdraft", id, c)
}

func fen(f purse.Fen) *uint64 {
	n := uint64(f)
	return &n
}
