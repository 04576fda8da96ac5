package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// cardCmd is a client for people: a test card that is kept in a file, worked with by hand through a signer.
type cardCmd struct {
	New  cardNewCmd  `cmd:"" help:"Make a test card, of a development signer's published test keys."`
	Show cardShowCmd `cmd:"" help:"Show what is on the card."`

	Load      cardLoadCmd      `cmd:"" help:"Load money onto the card."`
	Unload    cardUnloadCmd    `cmd:"" help:"Take money off the card's unload purse."`
	Overdraft cardOverdraftCmd `cmd:"" help:"Give the card's passbook another overdraft limit."`
	Purchase  cardPurchaseCmd  `cmd:"" help:"Pay with the card."`
	Cash      cardCashCmd      `cmd:"" help:"Withdraw cash from the card's passbook."`
	Compound  cardCompoundCmd  `cmd:"" help:"Pay with the card and change a record of it in one step."`

	Balance cardBalanceCmd `cmd:"" help:"Ask the card for its balances."`
	Log     cardLogCmd     `cmd:"" help:"Read the card's log."`
	Prove   cardProveCmd   `cmd:"" help:"Have the card prove what the signer has open, after a lost answer."`
	Settle  cardSettleCmd  `cmd:"" help:"Learn by a fresh INITIALIZE which loads the card did not take."`

	Block        cardBlockCmd        `cmd:"" help:"Block the card's application."`
	Unblock      cardUnblockCmd      `cmd:"" help:"Unblock the card's application."`
	Verify       cardVerifyCmd       `cmd:"" help:"Show the card its holder's PIN."`
	PINUnblock   cardPINUnblockCmd   `cmd:"" name:"pin-unblock" help:"Give the card's PIN its tries back."`
	PINReload    cardPINReloadCmd    `cmd:"" name:"pin-reload" help:"Give the card a new PIN."`
	Update       cardUpdateCmd       `cmd:"" help:"Update a file of the card, and read it back."`
	Authenticate cardAuthenticateCmd `cmd:"" help:"Have card and host prove themselves to each other."`

	Unlock cardUnlockCmd `cmd:"" help:"As an officer: lift the lock that repeated wrong MAC1s put on a card. Recorded, with the reason."`
}

// cardFlags say which card.
type cardFlags struct {
	File string `help:"The card." default:".pursekeeper/card.json" type:"path"`
}

// with has the card for as long as work runs.
func (f cardFlags) with(work func(*cardFile) error) (err error) {
	if err := secret.Available(); err != nil {
		return err
	}
	file, err := openCard(f.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.close()) }()
	return work(file)
}

// offline works with the powered card alone.
func (f cardFlags) offline(ctx context.Context, work func(*desk) error) error {
	return f.with(func(file *cardFile) error {
		d := newDesk(ctx, file)
		if err := d.powerUp(); err != nil {
			return err
		}
		return work(d)
	})
}

// newDesk puts the card of a file on the desk. Everything that the card takes is in the file before its answer is used.
func newDesk(ctx context.Context, file *cardFile) *desk {
	return &desk{
		trace: trace{os.Stdout}, ctx: ctx, set: file.keySet, serial: strings.TrimPrefix(file.card.Serial(), "0000"), card: file.card,
		keep: file.save,
	}
}

// deskFlags say which card and which signer.
type deskFlags struct {
	cardFlags
	Server   string `help:"Address of the signer." default:"https://127.0.0.1:7443"`
	TLS      string `help:"Folder with ca.crt and the client's NAME.crt and NAME.key." default:".pursekeeper/tls" name:"tls" placeholder:"DIR"`
	As       string `help:"NAME of the client certificate. By default platform, and for purchases reader." placeholder:"NAME"`
	KeySet   string `help:"Name another key set to the signer than the card's." placeholder:"NAME"`
	Serial   string `help:"Name another card to the signer than this one." placeholder:"DIGITS"`
	Terminal string `help:"Terminal number, 12 hex digits." default:"112233445566"`
}

// longest is how long one command may take, with the signer's answers.
const longest = 30 * time.Second

// online works with the powered card and the signer.
func (f deskFlags) online(ctx context.Context, work func(*desk) error) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	return f.with(func(file *cardFile) (err error) {
		d := newDesk(ctx, file)
		d.terminal = f.Terminal
		if _, err := d.terminalID(); err != nil {
			return err
		}
		if d.signer, err = f.client("platform").signer(); err != nil {
			return err
		}
		if d.reader, err = f.client("reader").reader(); err != nil {
			return err
		}
		if f.KeySet != "" {
			d.set = f.KeySet
		}
		if f.Serial != "" {
			d.serial = f.Serial
		}
		if err := d.powerUp(); err != nil {
			return err
		}
		return work(d)
	})
}

// client is as whom the signer is called for one of its services.
func (f deskFlags) client(role string) clientFlags {
	if f.As != "" {
		role = f.As
	}
	return clientFlags{Server: f.Server, TLS: f.TLS, As: role}
}

// tearFlags order a fault.
type tearFlags struct {
	Tear tearPoint `help:"Cut the card's power at a step of the command that completes the transaction: 1 before it does anything, \"last\" when its answer is on its way." placeholder:"STEP"`
}
