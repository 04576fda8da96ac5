package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/store"
)

// load is the main job: MAC1 verified, MAC2 issued, the card credits, its TAC is verified.
func (s *story) load() error {
	a, err := s.approved()
	if err != nil {
		return err
	}
	if err := s.complete(a); err != nil {
		return err
	}
	return s.balance(1100)
}

// repeatAndTamper asks twice for one answer of the card, then with one bit of MAC1 flipped, and completes the load.
func (s *story) repeatAndTamper() error {
	a, err := s.approved()
	if err != nil {
		return err
	}
	again, err := s.ask(s.last)
	if err != nil {
		return err
	}
	if again.Mac2 != a.Mac2 || again.TransactionId != a.TransactionId {
		return errors.New("a repeated request got another MAC2")
	}
	tampered := proto.CloneOf(s.last)
	if tampered.InitializeResponse, err = flipLastBit(s.last.InitializeResponse); err != nil {
		return err
	}
	s.say("thief", "flips a bit of MAC1", tampered.InitializeResponse[24:])
	refused, err := s.ask(tampered)
	if err != nil {
		return err
	}
	if err := expect(refused.Outcome, v1.Outcome_OUTCOME_MAC_MISMATCH); err != nil || refused.Mac2 != "" {
		return errors.Join(err, errors.New("a tampered request was not refused"))
	}
	return s.complete(a)
}

// lostAnswer cuts the power after the card took the load and before its TAC is out.
func (s *story) lostAnswer() error {
	a, err := s.approved()
	if err != nil {
		return err
	}
	command, err := hex.DecodeString(a.Command)
	if err != nil {
		return err
	}
	apdu, err := purse.ParseAPDU(command)
	if err != nil {
		return err
	}
	s.say("to card", "CREDIT FOR LOAD", creditLayout.command(apdu))
	s.card.TearAt(s.creditSteps) // the last step: everything is stored, and the answer is on its way
	if s.card.Transmit(command) != nil {
		return errors.New("the answer was not lost")
	}
	s.say("card", "  power is lost", "after it took the load; no TAC")
	if err := s.restart(); err != nil {
		return err
	}
	counter, err := purse.ParseCounter(strings.Split(a.TransactionId, "/")[4])
	if err != nil {
		return err
	}
	prove, err := purse.TransactionProve(purse.EP.LoadTTI(), counter)
	if err != nil {
		return err
	}
	answer, err := s.send("GET TRANSACTION PROVE", prove, nil, proveLayout)
	if err != nil {
		return err
	}
	proof, err := purse.ParseProveAnswer(answer)
	if err != nil {
		return err
	}
	return s.confirm(a.TransactionId, plainHex(proof.TAC[:]))
}

// lostCommand never delivers the first CREDIT FOR LOAD; the second load at the same counter is taken.
func (s *story) lostCommand() error {
	if _, err := s.approved(); err != nil {
		return err
	}
	s.say("", "the command is lost", "")
	a, err := s.approved()
	if err != nil {
		return err
	}
	return s.complete(a)
}

// settle loses a command and learns by a settlement that the load was never taken.
func (s *story) settle() error {
	a, err := s.approved()
	if err != nil {
		return err
	}
	s.say("", "the command is lost", "")
	begun, err := s.client.BeginSettlement(s.ctx, &v1.BeginSettlementRequest{KeySet: s.set, CardSerial: storySerial, Purse: v1.Purse_PURSE_EP})
	if err != nil {
		return err
	}
	s.say("signer", "BeginSettlement", "one-time terminal "+begun.TerminalId)
	answer, err := s.initialize(purse.Fen(begun.AmountFen), begun.TerminalId)
	if err != nil {
		return err
	}
	settled, err := s.client.SettleLoad(s.ctx, &v1.SettleLoadRequest{SettlementId: begun.SettlementId, InitializeResponse: answer})
	if err != nil {
		return err
	}
	s.say("signer", "SettleLoad", plain(settled.Outcome))
	s.proved(settled.Settled)
	if len(settled.Settled) != 1 || settled.Settled[0].TransactionId != a.TransactionId {
		return errors.New("the lost load was not settled")
	}
	if err := expect(settled.Settled[0].Outcome, v1.Outcome_OUTCOME_NOT_APPLIED); err != nil {
		return err
	}
	return s.balance(1400)
}

// restart powers the card up again.
func (s *story) restart() error {
	s.card.Reset()
	aid, err := purse.SelectApplication(softcard.DefaultAID())
	if err != nil {
		return err
	}
	_, err = s.send("SELECT", aid, nil, nil)
	return err
}

func flipLastBit(text string) (string, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return "", err
	}
	raw[len(raw)-1] ^= 1
	return plainHex(raw), nil
}

// withRecord calls each with every entry of a store that no signer has open.
func withRecord(cfg *config.Config, each func(index uint64, line []byte), first func()) (err error) {
	ctx := context.Background()
	record, err := store.OpenSQLite(ctx, cfg.SQLite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	first()
	return record.Entries(ctx, 0, func(index uint64, line []byte) bool {
		each(index, line)
		return true
	})
}

// summary is an entry in one line for a person.
func summary(line []byte) string {
	e, err := audit.Decode(line)
	if err != nil {
		return err.Error()
	}
	about := e.Transaction
	if about == "" {
		about = e.Settlement
	}
	if about == "" && e.Key != nil {
		about = fmt.Sprintf("%s/%s/%d", e.Key.Set, e.Key.Kind, e.Key.Version)
	}
	text := strings.TrimRight(fmt.Sprintf("%-16s %-9s %-26s %s", e.Event, e.Client, e.Outcome, about), " ")
	for _, p := range e.Settled {
		text += fmt.Sprintf("\n      %-16s %-9s %-26s %s", "", "", p.Outcome, p.Transaction)
	}
	return text
}
