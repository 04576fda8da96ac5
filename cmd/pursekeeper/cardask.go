package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/purse"
)

// cardBalanceCmd asks the card for its balances.
type cardBalanceCmd struct {
	Purse string `help:"EP or ED. By default both." enum:",EP,ED" default:""`
	cardFlags
}

// Run needs no signer.
func (c *cardBalanceCmd) Run(ctx context.Context) error {
	asked := []purse.Purse{purse.EP, purse.ED}
	if c.Purse != "" {
		p, err := purse.ParsePurse(c.Purse)
		if err != nil {
			return err
		}
		asked = []purse.Purse{p}
	}
	return c.offline(ctx, func(d *desk) error {
		for _, p := range asked {
			if err := d.tellBalance(p); err != nil {
				return err
			}
		}
		return nil
	})
}

// tellBalance asks the card for a balance and says it in fen.
func (d *desk) tellBalance(p purse.Purse) error {
	balance, err := d.balance(p)
	if err != nil {
		return err
	}
	d.say("", "  balance of "+p.String(), fmt.Sprintf("%d fen", balance))
	return nil
}

// cardLogCmd reads the card's log.
type cardLogCmd struct{ cardFlags }

// Run reads from the newest record to the first that the card does not have.
func (c *cardLogCmd) Run(ctx context.Context) error {
	return c.offline(ctx, func(d *desk) error {
		for n := byte(1); ; n++ {
			raw, err := d.send(fmt.Sprintf("READ RECORD %d", n), purse.ReadLog(n), nil, logLayout)
			var refused *cardError
			if errors.As(err, &refused) && refused.sw == purse.SWRecordNotFound {
				return nil
			} else if err != nil {
				return err
			}
			r, err := purse.ParseLogRecord(raw)
			if err != nil {
				return err
			}
			d.say("", "  counter "+r.SN.String(), logged(r))
		}
	})
}

// logged is a record of the log in words.
func logged(r purse.LogRecord) string {
	amount := int64(r.Amount)
	if r.TTI == purse.TTIOverdraft {
		amount = int64(r.Overdraft) // no money moved
	}
	return fmt.Sprintf("%v, %d fen, terminal %v, %v %v", r.TTI, amount, r.Terminal, r.Date, r.Time)
}

// readBack asks the card for what it was just given.
func (d *desk) readBack(name string, a purse.APDU, want []byte) error {
	got, err := d.send(name, a, nil, nil)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("the card answers other data than it was given")
	}
	return err
}

// cardProveCmd is GET TRANSACTION PROVE (EPURSE.md §5.5), and the signer's confirmation of what it answers.
type cardProveCmd struct {
	ID string `arg:"" optional:"" help:"A transaction or purchase id. By default whatever the signer has open for the card; purchases are not listed."`
	deskFlags
}

// Run asks the card for its proofs.
func (c *cardProveCmd) Run(ctx context.Context) error {
	return c.online(ctx, func(d *desk) error {
		if c.ID == "" {
			return d.proveOpen()
		}
		p, err := parseProvable(c.ID)
		if err != nil {
			return err
		}
		return d.prove(p)
	})
}

// cardSettleCmd is BeginSettlement and SettleLoad.
type cardSettleCmd struct {
	purseFlag
	deskFlags
}

// Run settles what is open of one purse.
func (c *cardSettleCmd) Run(ctx context.Context) error {
	return c.online(ctx, func(d *desk) error {
		p, err := c.purse()
		if err != nil {
			return err
		}
		settled, err := d.settle(p)
		if err == nil && len(settled) == 0 {
			d.say("", "  and so", "nothing was open")
		}
		return err
	})
}
