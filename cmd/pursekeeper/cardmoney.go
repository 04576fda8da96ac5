package main

import (
	"context"

	"github.com/pursekeeper/pursekeeper/purse"
)

// amountFlag is how much.
type amountFlag struct {
	Amount uint32 `arg:"" help:"Amount in fen."`
}

// purseFlag is which of the card's two.
type purseFlag struct {
	Purse string `help:"EP, the purse, or ED, the passbook." enum:"EP,ED" default:"EP"`
}

func (f purseFlag) purse() (purse.Purse, error) { return purse.ParsePurse(f.Purse) }

// cardLoadCmd is a load (EPURSE.md §5.1).
type cardLoadCmd struct {
	amountFlag
	purseFlag
	deskFlags
	tearFlags
}

// Run loads the card.
func (c *cardLoadCmd) Run(ctx context.Context) error {
	return c.online(ctx, func(d *desk) error {
		p, err := c.purse()
		if err != nil {
			return err
		}
		d.tear = c.Tear
		return then(d, p, d.load(p, purse.Fen(c.Amount)))
	})
}

// then asks the card for its balance when all went well.
func then(d *desk, p purse.Purse, err error) error {
	if err != nil {
		return err
	}
	return d.tellBalance(p)
}

// cardUnloadCmd is an unload (EPURSE.md §5.3).
type cardUnloadCmd struct {
	amountFlag
	Purse string `help:"EP or ED. By default the one that the card profile unloads: cards refuse the other." enum:",EP,ED" default:""`
	deskFlags
	tearFlags
}

// Run unloads the card.
func (c *cardUnloadCmd) Run(ctx context.Context) error {
	return c.online(ctx, func(d *desk) error {
		p := d.card.Profile().UnloadPurse()
		if c.Purse != "" {
			var err error
			if p, err = purse.ParsePurse(c.Purse); err != nil {
				return err
			}
		}
		d.tear = c.Tear
		return then(d, p, d.unload(p, purse.Fen(c.Amount)))
	})
}

// cardOverdraftCmd is a change of the overdraft limit (EPURSE.md §5.4).
type cardOverdraftCmd struct {
	Limit uint64 `arg:"" help:"The new limit in fen, 0 to 16777215."`
	deskFlags
	tearFlags
}

// Run changes the limit.
func (c *cardOverdraftCmd) Run(ctx context.Context) error {
	limit, err := purse.NewLimit("limit", c.Limit)
	if err != nil {
		return err
	}
	return c.online(ctx, func(d *desk) error {
		d.tear = c.Tear
		return then(d, purse.ED, d.overdraft(limit))
	})
}

// cardPurchaseCmd is a purchase (EPURSE.md §5.2), with the signer as the terminal's secure module.
type cardPurchaseCmd struct {
	amountFlag
	purseFlag
	deskFlags
	tearFlags
}

// Run pays.
func (c *cardPurchaseCmd) Run(ctx context.Context) error {
	return c.online(ctx, func(d *desk) error {
		p, err := c.purse()
		if err != nil {
			return err
		}
		d.tear = c.Tear
		return then(d, p, d.purchase(p.PurchaseTTI(), purse.Fen(c.Amount), nil))
	})
}

// cardCashCmd is a cash withdrawal, of the passbook alone.
type cardCashCmd struct {
	amountFlag
	deskFlags
	tearFlags
}

// Run withdraws.
func (c *cardCashCmd) Run(ctx context.Context) error {
	return c.online(ctx, func(d *desk) error {
		d.tear = c.Tear
		return then(d, purse.ED, d.purchase(purse.TTICashWithdrawal, purse.Fen(c.Amount), nil))
	})
}

// cardCompoundCmd is a compound purchase, of the purse alone.
type cardCompoundCmd struct {
	amountFlag
	Record uint8  `help:"Number of the record that changes with the balance." default:"1"`
	Data   string `help:"What the record becomes, hex digits, as long as it is." default:"00000000000000000000000000000001" placeholder:"HEX"`
	deskFlags
	tearFlags
}

// Run pays, and has the card change the record in the same step.
func (c *cardCompoundCmd) Run(ctx context.Context) error {
	data, err := purse.ParseHexRange("data", c.Data, 1, 255)
	if err != nil {
		return err
	}
	return c.online(ctx, func(d *desk) error {
		d.tear = c.Tear
		err := d.purchase(purse.TTICompound, purse.Fen(c.Amount), &cacheUpdate{recordFile, c.Record, data})
		if err != nil {
			return err
		}
		if err := d.readBack("READ RECORD", purse.ReadRecord(recordFile, c.Record, len(data)), data); err != nil {
			return err
		}
		return d.tellBalance(purse.EP)
	})
}
