package main

import (
	"context"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/purse"
)

// cardBlockCmd is APPLICATION BLOCK, or CARD BLOCK.
type cardBlockCmd struct {
	Permanent bool `help:"For ever: nothing unblocks the application." xor:"how"`
	Card      bool `help:"The whole card, for ever (CARD BLOCK)." xor:"how"`
	deskFlags
}

// Run blocks.
func (c *cardBlockCmd) Run(ctx context.Context) error {
	r := &v1.SignCommandRequest{Command: v1.Command_COMMAND_APPLICATION_BLOCK, Permanent: c.Permanent}
	if c.Card {
		r.Command = v1.Command_COMMAND_CARD_BLOCK
	}
	return c.online(ctx, func(d *desk) error { return d.command(r) })
}

// cardUnblockCmd is APPLICATION UNBLOCK.
type cardUnblockCmd struct{ deskFlags }

// Run unblocks.
func (c *cardUnblockCmd) Run(ctx context.Context) error {
	return c.online(ctx, func(d *desk) error {
		return d.command(&v1.SignCommandRequest{Command: v1.Command_COMMAND_APPLICATION_UNBLOCK})
	})
}

// cardVerifyCmd is VERIFY.
type cardVerifyCmd struct {
	pinFlags
	cardFlags
}

// Run needs no signer.
func (c *cardVerifyCmd) Run(ctx context.Context) error {
	digits, err := c.pin(ctx, "PIN")
	if err != nil {
		return err
	}
	defer digits.Wipe()
	return c.offline(ctx, func(d *desk) error { return d.verifyPIN(digits) })
}

// cardPINUnblockCmd is PIN UNBLOCK.
type cardPINUnblockCmd struct {
	pinFlags
	deskFlags
}

// Run shows the signer the PIN that the card has: it is in the command, where the card profile does not leave it out.
func (c *cardPINUnblockCmd) Run(ctx context.Context) error {
	digits, err := c.pin(ctx, "PIN of the card")
	if err != nil {
		return err
	}
	defer digits.Wipe()
	return c.pinCommand(ctx, v1.Command_COMMAND_PIN_UNBLOCK, digits)
}

// cardPINReloadCmd is RELOAD PIN.
type cardPINReloadCmd struct {
	pinFlags
	deskFlags
}

// Run gives the card a new PIN.
func (c *cardPINReloadCmd) Run(ctx context.Context) error {
	digits, err := c.pin(ctx, "New PIN of the card")
	if err != nil {
		return err
	}
	defer digits.Wipe()
	return c.pinCommand(ctx, v1.Command_COMMAND_RELOAD_PIN, digits)
}

// pinCommand reads the PIN first: nobody types it while he has the card.
func (f deskFlags) pinCommand(ctx context.Context, command v1.Command, digits secret.Bytes) error {
	return f.online(ctx, func(d *desk) error { return d.pinCommand(command, digits) })
}

// cardUpdateCmd is UPDATE BINARY and UPDATE RECORD, of the files that "card new" makes.
type cardUpdateCmd struct {
	Binary cardUpdateBinaryCmd `cmd:"" help:"Update the transparent file 16."`
	Record cardUpdateRecordCmd `cmd:"" help:"Update a record of file 17."`
}

type cardUpdateBinaryCmd struct {
	Data   string `arg:"" help:"Hex digits."`
	Offset uint8  `help:"Where in the file."`
	deskFlags
}

// Run updates a part of the file and reads it back.
func (c *cardUpdateBinaryCmd) Run(ctx context.Context) error {
	data, err := purse.ParseHexRange("data", c.Data, 1, 255)
	if err != nil {
		return err
	}
	return c.online(ctx, func(d *desk) error {
		err := d.command(&v1.SignCommandRequest{
			Command: v1.Command_COMMAND_UPDATE_BINARY, P1: plainHex([]byte{0x80 | binaryFile}), P2: plainHex([]byte{c.Offset}), Data: plainHex(data),
		})
		if err != nil {
			return err
		}
		return d.readBack("READ BINARY", purse.ReadBinary(binaryFile, c.Offset, len(data)), data)
	})
}

type cardUpdateRecordCmd struct {
	Data   string `arg:"" help:"Hex digits, as long as the record: 16 bytes."`
	Record uint8  `help:"Number of the record." default:"1"`
	deskFlags
}

// Run updates the record and reads it back.
func (c *cardUpdateRecordCmd) Run(ctx context.Context) error {
	data, err := purse.ParseHexRange("data", c.Data, 1, 255)
	if err != nil {
		return err
	}
	return c.online(ctx, func(d *desk) error {
		err := d.command(&v1.SignCommandRequest{
			Command: v1.Command_COMMAND_UPDATE_RECORD, P1: plainHex([]byte{c.Record}), P2: plainHex([]byte{recordFile<<3 | 4}), Data: plainHex(data),
		})
		if err != nil {
			return err
		}
		return d.readBack("READ RECORD", purse.ReadRecord(recordFile, c.Record, len(data)), data)
	})
}

// cardAuthenticateCmd is EXTERNAL and INTERNAL AUTHENTICATE.
type cardAuthenticateCmd struct {
	Who string `arg:"" optional:"" help:"host, the host to the card; card, the card to the host; or both." enum:"both,host,card" default:"both"`
	deskFlags
}

// Run has the named ones prove themselves.
func (c *cardAuthenticateCmd) Run(ctx context.Context) error {
	return c.online(ctx, func(d *desk) error {
		if c.Who != "card" {
			if err := d.authenticateHost(); err != nil {
				return err
			}
		}
		if c.Who == "host" {
			return nil
		}
		return d.authenticateCard()
	})
}
