package testvectors

import (
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
)

// transaction is a load, unload, purchase or change of the overdraft limit (EPURSE.md §5), or the TAC of one alone.
type transaction struct {
	in      *inputs
	keyKind keyderive.Kind

	// needs are the inputs that each value is made of; a value that is not in it the operation does not make.
	needs map[Value][]string

	// input is what the session key is derived from (§3); covered is what each MAC and the TAC covers.
	input   keyderive.Factor
	covered map[Value][]byte

	// host is the MAC that the host or terminal makes: MAC2 of the online transactions, which answers the card's MAC1, and
	// MAC1 of a purchase. completes is the command that carries it.
	host      Value
	completes func(purse.MAC) purse.APDU
}

func (t *transaction) kind() keyderive.Kind { return t.keyKind }

func (t *transaction) makes(value Value) error {
	if value == CardKeyValue {
		return nil
	}
	fields, ok := t.needs[value]
	if !ok {
		return errNotMade
	}
	return t.in.need(fields...)
}

func (t *transaction) certified() []byte { return t.covered[TACValue] }

// errNotMade refuses an output that would never be compared.
var errNotMade = errors.New("the operation does not make this value")

// newTransaction lays out the transaction of the operation as package purse does. Inputs that are left out count as zeros,
// or as what fits; makes refuses every value that they would go into.
func newTransaction(operation Operation, in *inputs) (*transaction, error) {
	switch operation {
	case OperationLoad:
		return newLoad(in)
	case OperationUnload:
		return newUnload(in)
	case OperationPurchase:
		return newPurchase(in)
	case OperationOverdraft:
		return newOverdraft(in)
	case OperationTAC:
		return newTAC(in)
	}
	return nil, fmt.Errorf("operation: %q is no transaction", operation)
}

func newLoad(in *inputs) (*transaction, error) {
	if in.given["type"] {
		if err := in.needType(purse.TTILoadED, purse.TTILoadEP); err != nil {
			return nil, err
		}
	} else {
		in.tti = purse.TTILoadEP
	}
	p, _ := in.tti.Purse() // both load types have one
	init := purse.LoadInit{Balance: in.balance, Counter: in.counter, Random: in.random}
	load, err := purse.NewLoad(init, p, in.amount, in.terminal)
	if err != nil {
		return nil, fmt.Errorf("in.%w", err)
	}
	mac2 := []string{"random", "counter", "amount", "type", "terminal", "date", "time"}
	return &transaction{
		in: in, keyKind: keyderive.KindLoad, input: load.SessionInput(), host: MAC2Value,
		needs: map[Value][]string{
			SessionKeyValue: {"random", "counter"},
			MAC1Value:       {"random", "counter", "balance", "amount", "type", "terminal"},
			MAC2Value:       mac2,
			APDUValue:       mac2,
			TACValue:        {"counter", "balance", "amount", "type", "terminal", "date", "time"},
		},
		covered: map[Value][]byte{
			MAC1Value: load.MAC1Data(), MAC2Value: load.MAC2Data(in.date, in.time), TACValue: load.TACData(in.date, in.time),
		},
		completes: func(mac purse.MAC) purse.APDU { return purse.CreditForLoad(in.profile, in.date, in.time, mac) },
	}, nil
}

func newUnload(in *inputs) (*transaction, error) {
	if err := in.needType(purse.TTIUnload); err != nil {
		return nil, err
	}
	if !in.given["balance"] {
		in.balance = in.amount // MAC2 covers no balance
	}
	init := purse.UnloadInit{Balance: in.balance, Counter: in.counter, Random: in.random}
	unload, err := purse.NewUnload(in.profile, init, in.profile.UnloadPurse(), in.amount, in.terminal)
	if err != nil {
		return nil, fmt.Errorf("in.%w", err)
	}
	mac2 := []string{"random", "counter", "amount", "terminal", "date", "time"}
	return &transaction{
		in: in, keyKind: keyderive.KindUnload, input: unload.SessionInput(), host: MAC2Value,
		needs: map[Value][]string{
			SessionKeyValue: {"random", "counter"},
			MAC1Value:       {"random", "counter", "balance", "amount", "terminal"},
			MAC2Value:       mac2,
			APDUValue:       mac2,
			MAC3Value:       {"random", "counter", "balance", "amount", "terminal", "date", "time"},
		},
		covered: map[Value][]byte{
			MAC1Value: unload.MAC1Data(), MAC2Value: unload.MAC2Data(in.date, in.time), MAC3Value: unload.MAC3Data(in.date, in.time),
		},
		completes: func(mac purse.MAC) purse.APDU { return purse.DebitForUnload(in.date, in.time, mac) },
	}, nil
}

func newPurchase(in *inputs) (*transaction, error) {
	if in.given["type"] {
		err := in.needType(purse.TTICashWithdrawal, purse.TTIPurchaseED, purse.TTIPurchaseEP, purse.TTICompound)
		if err != nil {
			return nil, err
		}
	} else {
		in.tti = purse.TTIPurchaseEP
	}
	init := purse.PurchaseInit{Balance: in.balance, Counter: in.counter, Random: in.random}
	purchase, err := purse.NewPurchase(init, in.tti, in.terminalSerial, in.amount, in.terminal)
	if err != nil {
		return nil, fmt.Errorf("in.%w", err)
	}
	mac1 := []string{"random", "counter", "terminalSerial", "amount", "type", "terminal", "date", "time"}
	return &transaction{
		in: in, keyKind: keyderive.KindPurchase, input: purchase.SessionInput(), host: MAC1Value,
		needs: map[Value][]string{
			SessionKeyValue: {"random", "counter", "terminalSerial"},
			MAC1Value:       mac1,
			APDUValue:       mac1,
			MAC2Value:       {"random", "counter", "terminalSerial", "amount"},
			TACValue:        {"amount", "type", "terminal", "terminalSerial", "date", "time"},
		},
		covered: map[Value][]byte{
			MAC1Value: purchase.MAC1Data(in.date, in.time), MAC2Value: purchase.MAC2Data(), TACValue: purchase.TACData(in.date, in.time),
		},
		completes: func(mac purse.MAC) purse.APDU { return purchase.Debit(in.profile, in.date, in.time, mac) },
	}, nil
}

func newOverdraft(in *inputs) (*transaction, error) {
	if err := in.needType(purse.TTIOverdraft); err != nil {
		return nil, err
	}
	if !in.given["balance"] {
		in.balance = purse.Fen(in.oldLimit) // MAC2 covers no balance
	}
	if !in.given["newLimit"] {
		in.newLimit = in.oldLimit // MAC1 covers no new limit
	}
	init := purse.OverdraftInit{Balance: in.balance, Counter: in.counter, OldLimit: in.oldLimit, Random: in.random}
	overdraft, err := purse.NewOverdraft(init, in.newLimit, in.terminal)
	if err != nil {
		return nil, fmt.Errorf("in.%w", err)
	}
	mac2 := []string{"random", "counter", "newLimit", "terminal", "date", "time"}
	return &transaction{
		in: in, keyKind: keyderive.KindOverdraft, input: overdraft.SessionInput(), host: MAC2Value,
		needs: map[Value][]string{
			SessionKeyValue: {"random", "counter"},
			MAC1Value:       {"random", "counter", "balance", "oldLimit", "terminal"},
			MAC2Value:       mac2,
			APDUValue:       mac2,
			TACValue:        {"counter", "balance", "oldLimit", "newLimit", "terminal", "date", "time"},
		},
		covered: map[Value][]byte{
			MAC1Value: overdraft.MAC1Data(), MAC2Value: overdraft.MAC2Data(in.date, in.time), TACValue: overdraft.TACData(in.date, in.time),
		},
		completes: func(mac purse.MAC) purse.APDU { return purse.UpdateOverdraftLimit(in.newLimit, in.date, in.time, mac) },
	}, nil
}

// newTAC is one TAC by its type, laid out as its transaction's. An unload has none: its MAC3 is under the session key
// (EPURSE.md §5.3).
func newTAC(in *inputs) (t *transaction, err error) {
	if err := in.need("type"); err != nil {
		return nil, err
	}
	switch {
	case in.tti == purse.TTIUnload:
		return nil, errors.New("in.type: 03 unload has no TAC; its MAC3 is under the session key, use operation unload")
	case in.tti.Offline():
		t, err = newPurchase(in)
	case in.tti == purse.TTIOverdraft:
		t, err = newOverdraft(in)
	default:
		t, err = newLoad(in)
	}
	if err != nil {
		return nil, err
	}
	t.keyKind = keyderive.KindTAC
	t.needs = map[Value][]string{TACValue: t.needs[TACValue]}
	return t, nil
}

// run compares the session key and what is made under it.
func (t *transaction) run(card keyderive.Card, values outputs, into *results) error {
	if !values.wantsAny(SessionKeyValue, MAC1Value, MAC2Value, MAC3Value, APDUValue) {
		return nil
	}
	session, err := card.Session(t.input)
	if err != nil {
		return err
	}
	if values.wants(SessionKeyValue) {
		if err := into.sessionKey(session, values); err != nil {
			return err
		}
	}
	issued, err := t.issue(session, values, into)
	if err != nil {
		return err
	}
	if values.wants(t.host) {
		into.compareMAC(t.host, issued, values)
	}
	if values.wants(APDUValue) {
		into.compare(APDUValue, t.completes(issued).Bytes(), values)
	}
	for _, value := range []Value{MAC2Value, MAC3Value} {
		if value != t.host && values.wants(value) {
			if err := into.verify(session, value, t.covered[value], values); err != nil {
				return err
			}
		}
	}
	return nil
}

// issue makes the host's MAC. Online that is the answer to the card's MAC1, and without a right one there is none on the
// live path; the vector's other values are still to be compared, so it is then computed by itself.
func (t *transaction) issue(session keyderive.Session, values outputs, into *results) (keyderive.MAC, error) {
	issue := t.covered[t.host]
	if t.host == MAC1Value {
		return session.MAC(issue)
	}
	if !values.wants(MAC1Value) {
		proof, err := session.MAC(t.covered[MAC1Value]) // the card's part
		if err != nil {
			return keyderive.MAC{}, err
		}
		return session.Answer(t.covered[MAC1Value], proof, issue)
	}
	answer, err := session.Answer(t.covered[MAC1Value], keyderive.MAC(values.out[MAC1Value]), issue)
	if err != nil && !errors.Is(err, keyderive.ErrMismatch) {
		return keyderive.MAC{}, err
	}
	if recordErr := into.verdict(session, MAC1Value, t.covered[MAC1Value], err, values); recordErr != nil {
		return keyderive.MAC{}, recordErr
	}
	if err != nil {
		return session.MAC(issue)
	}
	return answer, nil
}
