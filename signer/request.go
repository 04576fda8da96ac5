package signer

import (
	"github.com/pursekeeper/pursekeeper/purse"
)

// onlineRequest is what the requests of all online transactions have.
type onlineRequest struct {
	cardSerial, issuerID, terminalID, date, time string
}

// readOnline reads what all online transactions have, but for the card's answer.
func (s view) readOnline(kind onlineKind, set *keySet, which purse.Purse, r onlineRequest) (o online, err error) {
	o = online{kind: kind, set: set, purse: which}
	if o.card, err = set.parseCard(r.cardSerial, r.issuerID); err != nil {
		return o, err
	}
	if !which.Valid() {
		return o, &purse.FieldError{Field: "purse", Problem: "missing, expected PURSE_ED or PURSE_EP"}
	}
	if o.terminal, err = purse.ParseTerminal(r.terminalID); err != nil {
		return o, err
	}
	o.date, o.time, o.dated, err = s.moment(set, r.date, r.time)
	return o, err
}

// answered takes over the card's answer to INITIALIZE.
func (o *online) answered(balance purse.Fen, counter purse.Counter, kver purse.KVER, alg purse.ALG, random purse.Random, raw []byte) error {
	o.balance, o.counter, o.kver, o.random, o.initialize = balance, counter, kver, random, raw
	if err := o.set.acceptsALG(alg); err != nil {
		return err
	}
	return usable("ONSN", counter)
}

// usable refuses a counter at its end: the card takes no further transaction and answers 9402 (EPURSE.md §5.6).
func usable(name string, counter purse.Counter) error {
	if counter != purse.CounterExhausted {
		return nil
	}
	return &purse.FieldError{
		Field: initializeField, Problem: name + " is FFFF, where the card's counter ends: it takes no further transaction",
	}
}

const initializeField = "initializeResponse"

func (s *keySet) acceptsALG(alg purse.ALG) error {
	if s.Profile.AcceptsALG(alg) {
		return nil
	}
	return &purse.FieldError{Field: initializeField, Problem: "ALG is not one that the card profile lists"}
}

// readAmount reads the amount of a load, unload or purchase.
func readAmount(fen uint64) (purse.Fen, error) {
	amount, err := purse.NewFen("amountFen", fen)
	if err == nil && amount == 0 {
		err = &purse.FieldError{Field: "amountFen", Problem: "is 0, expected 1 to 4294967295"}
	}
	return amount, err
}

// moment reads a date and time, both or neither; the signer's clock in the key set's time zone fills them.
func (s view) moment(set *keySet, date, clock string) (d purse.Date, t purse.Time, given bool, err error) {
	switch {
	case date == "" && clock == "":
		d, t, err = purse.DateTime(s.now().In(set.Location))
		return d, t, false, err
	case date == "":
		return d, t, false, &purse.FieldError{Field: "date", Problem: "missing: date and time come together or not at all"}
	case clock == "":
		return d, t, false, &purse.FieldError{Field: "time", Problem: "missing: date and time come together or not at all"}
	}
	if d, err = purse.ParseDate(date); err != nil {
		return d, t, false, err
	}
	t, err = purse.ParseTime(clock)
	return d, t, true, err
}
