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
)

// firstLoad is the main job: MAC1 verified, MAC2 issued, the card credits, its TAC is verified.
func (s *story) firstLoad() error {
	if err := s.load(purse.EP, storyAmount); err != nil {
		return err
	}
	return s.has(purse.EP, 1100)
}

// repeatAndTamper asks twice for one answer of the card, then with one bit of MAC1 flipped, and completes the load.
func (s *story) repeatAndTamper() error {
	b, err := s.approved()
	if err != nil {
		return err
	}
	again, err := s.authorizeLoad(b.request)
	if err != nil {
		return err
	}
	if again.Mac2 != b.answer.Mac2 || again.TransactionId != b.answer.TransactionId {
		return errors.New("a repeated request got another MAC2")
	}
	tampered := proto.CloneOf(b.request)
	if tampered.InitializeResponse, err = flipLastBit(b.request.InitializeResponse); err != nil {
		return err
	}
	s.say("thief", "flips a bit of MAC1", tampered.InitializeResponse[24:])
	stopped, err := s.authorizeLoad(tampered)
	if err != nil {
		return err
	}
	if stopped.Outcome != v1.Outcome_OUTCOME_MAC_MISMATCH || stopped.Mac2 != "" {
		return errors.New("a tampered request was not refused")
	}
	return s.take(b)
}

// lostAnswer cuts the power after the card took the load and before its TAC is out.
func (s *story) lostAnswer() error {
	b, err := s.approved()
	if err != nil {
		return err
	}
	s.tear = tearPoint{last: true} // everything is stored, and the answer is on its way
	if err := s.take(b); !errors.Is(err, errPowerLost) {
		return errors.Join(err, errors.New("the answer was not lost"))
	}
	if err := s.powerUp(); err != nil {
		return err
	}
	lost, err := parseProvable(b.answer.TransactionId)
	if err != nil {
		return err
	}
	return s.prove(lost)
}

// lostCommand never delivers the first CREDIT FOR LOAD; the second load at the same counter is taken.
func (s *story) lostCommand() error {
	if _, err := s.approved(); err != nil {
		return err
	}
	s.say("", "the command is lost", "")
	return s.load(purse.EP, storyAmount)
}

// settleLost loses a command and learns by a settlement that the load was never taken.
func (s *story) settleLost() error {
	b, err := s.approved()
	if err != nil {
		return err
	}
	s.say("", "the command is lost", "")
	settled, err := s.settle(purse.EP)
	if err != nil {
		return err
	}
	if len(settled) != 1 || settled[0].TransactionId != b.answer.TransactionId {
		return errors.New("the lost load was not settled")
	}
	if err := expect(settled[0].Outcome, v1.Outcome_OUTCOME_NOT_APPLIED, ""); err != nil {
		return err
	}
	return s.has(purse.EP, 1400)
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
	record, err := openStore(ctx, cfg)
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
	if e.Batch != nil {
		about = fmt.Sprintf("%d TACs: %d verified, %d mismatched, %d failed", e.Batch.Items, e.Batch.Verified, e.Batch.Mismatched, e.Batch.Failed)
	}
	if e.Inputs.Item > 0 {
		about += fmt.Sprintf("  item %d", e.Inputs.Item)
	}
	if e.Inputs.Command != "" {
		about += "  " + e.Inputs.Command
	}
	text := strings.TrimRight(fmt.Sprintf("%-18s %-9s %-26s %s", e.Event, e.Client, e.Outcome, about), " ")
	for _, p := range e.Settled {
		text += fmt.Sprintf("\n      %-18s %-9s %-26s %s", "", "", p.Outcome, p.Transaction)
	}
	return text
}
