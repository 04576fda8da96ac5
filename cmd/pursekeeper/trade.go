package main

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/purse"
)

// The scenes after the loads: what else is done with a card.

// pay buys something for 2.50 yuan.
func (s *story) pay() error {
	if err := s.purchase(purse.TTIPurchaseEP, 250, nil); err != nil {
		return err
	}
	return s.has(purse.EP, 1150)
}

// cashOut takes 3 yuan off the passbook, the profile's unload purse.
func (s *story) cashOut() error {
	if err := s.unload(purse.ED, 300); err != nil {
		return err
	}
	return s.has(purse.ED, 700)
}

// lend lets the passbook go 5 yuan below nothing. A card's balance has the limit in it.
func (s *story) lend() error {
	if err := s.overdraft(500); err != nil {
		return err
	}
	return s.has(purse.ED, 1200)
}

// blockAndUnblock blocks the application, which then answers nothing, and unblocks it.
func (s *story) blockAndUnblock() error {
	if err := s.command(&v1.SignCommandRequest{Command: v1.Command_COMMAND_APPLICATION_BLOCK}); err != nil {
		return err
	}
	_, err := s.balance(purse.EP)
	if err := refused(err, purse.SWFunction); err != nil {
		return err
	}
	if err := s.command(&v1.SignCommandRequest{Command: v1.Command_COMMAND_APPLICATION_UNBLOCK}); err != nil {
		return err
	}
	return s.has(purse.EP, 1150)
}

// forgetPIN shows the card three wrong PINs and has it unblocked.
func (s *story) forgetPIN() error {
	wrong := digits("271828")
	defer wrong.Wipe()
	right := digits(storyPIN)
	defer right.Wipe()
	for left := 2; left >= 0; left-- {
		if err := refused(s.verifyPIN(wrong), purse.SWPINTries(left)); err != nil {
			return err
		}
	}
	if err := refused(s.verifyPIN(right), purse.SWBlocked); err != nil {
		return err
	}
	if err := s.pinCommand(v1.Command_COMMAND_PIN_UNBLOCK, right); err != nil {
		return err
	}
	return s.verifyPIN(right)
}

// clear verifies every TAC that the card gave, and one that somebody forged: the purchase for a hundred times as much.
func (s *story) clear() error {
	request := &v1.VerifyTacsRequest{Items: s.receipts}
	at := -1
	for i, r := range s.receipts {
		if r.Type == "06" {
			at = i
		}
	}
	if at < 0 {
		return errors.New("no purchase to forge")
	}
	forged := proto.CloneOf(s.receipts[at])
	forged.Ref, forged.AmountFen = "forged "+forged.Ref, 100*forged.AmountFen
	request.Items = append(request.Items[:at:at], append([]*v1.VerifyTacRequest{forged}, request.Items[at:]...)...)
	a, err := s.signer.VerifyTacs(s.ctx, request)
	if err != nil {
		return err
	}
	s.say("signer", "VerifyTacs", fmt.Sprintf("%d items: %d verified, %d mismatched, %d failed", len(a.Results), a.Verified, a.Mismatched, a.Failed))
	for i, r := range a.Results {
		s.say("", "  "+r.Ref, fmt.Sprintf("%s  TAC %s%s", plain(r.Outcome), request.Items[i].Tac, keyed(r.Key, r.Boundary)))
		if (r.Outcome != v1.Outcome_OUTCOME_VERIFIED) != (r.Ref == forged.Ref) {
			return fmt.Errorf("%s: outcome %s", r.Ref, plain(r.Outcome))
		}
	}
	return nil
}
