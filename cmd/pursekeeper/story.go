package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// The demonstration card and terminal (DESIGN §4).
const (
	storySerial   = "3105228000001117"
	storyTerminal = "112233445566"
	storyDate     = "20240131"
	storyTime     = "235959"
	storyAmount   = 100
)

// story is one card, the platform that loads it, and the trace of what they say. The first thing that is not as it should
// be is an error: the demonstration is a test of the signer.
type story struct {
	ctx     context.Context //nolint:containedctx // one story is one call
	out     io.Writer
	client  pursekeeperv1connect.SignerServiceClient
	set     string
	profile purse.Profile
	card    *softcard.Card
	last    *v1.AuthorizeLoadRequest

	creditSteps int // of the last CREDIT FOR LOAD, to cut the power after the last of them
}

func newStory(ctx context.Context, out io.Writer, client pursekeeperv1connect.SignerServiceClient, set string) (*story, error) {
	profile, err := purse.ShippedProfile("pboc-ep")
	if err != nil {
		return nil, err
	}
	alg := suite.TDES
	if set == "demo-sm4" {
		alg = suite.SM4
	}
	card, err := storyCard(alg, profile)
	if err != nil {
		return nil, err
	}
	s := &story{ctx: ctx, out: out, client: client, set: set, profile: profile, card: card}
	fmt.Fprintf(out, "\n== Key set %s: %v, card %s, balance 10.00 yuan ==\n", set, alg, storySerial)
	aid, err := purse.SelectApplication(softcard.DefaultAID())
	if err != nil {
		return nil, err
	}
	_, err = s.send("SELECT", aid, nil, nil)
	return s, err
}

// storyCard personalises the card. Its randomness is fixed, so that every demonstration prints the same MACs; a real card's
// is not.
func storyCard(alg suite.Algorithm, profile purse.Profile) (*softcard.Card, error) {
	issuer, err := keyderive.ParseFactor(demoIssuer)
	if err != nil {
		return nil, err
	}
	card, err := purse.ParseCardSerial(storySerial)
	if err != nil {
		return nil, err
	}
	keys := map[purse.KeyKind][]softcard.Key{}
	for kind, master := range demoMasters {
		if purse.KeyKind(kind.String()).OfModule() {
			continue
		}
		clear, err := hex.DecodeString(string(master))
		if err != nil {
			return nil, err
		}
		value, err := softcard.Diversify(alg, softcard.KeyValue(clear), issuer, card)
		if err != nil {
			return nil, err
		}
		keys[purse.KeyKind(kind.String())] = []softcard.Key{{Version: 1, Value: value}}
	}
	random := rand.NewChaCha8([32]byte{1})
	return softcard.Personalise(softcard.Options{
		Algorithm: alg, Profile: profile, Serial: storySerial, Keys: keys,
		EP:     softcard.Account{Balance: 1000, Online: 7},
		Random: io.MultiReader(bytes.NewReader([]byte{0xA1, 0xB2, 0xC3, 0xD4}), random),
	})
}

func (s *story) title(text string) { fmt.Fprintf(s.out, "\n-- %s\n", text) }

// say prints one line of the trace.
func (s *story) say(who, what, value string) {
	fmt.Fprintf(s.out, "   %-8s %-21s %s\n", who, what, value)
}

// layout is the widths of a message's fields in bytes, for the trace; what is left over stands in one piece.
type layout []int

var (
	initializeLayout = layout{1, 4, 6}          // KI AMT TERM
	initAnswerLayout = layout{4, 2, 1, 1, 4, 4} // BAL ONSN KVER ALG R MAC1
	creditLayout     = layout{4, 3, 4}          // DATE TIME MAC2
	proveLayout      = layout{4, 4}             // MAC TAC
)

// group writes bytes as a payment log does: hex digits, a space between fields.
func (l layout) group(b []byte) string {
	var fields []string
	for _, width := range l {
		if len(b) <= width {
			break
		}
		fields = append(fields, plainHex(b[:width]))
		b = b[width:]
	}
	if len(b) > 0 {
		fields = append(fields, plainHex(b))
	}
	return strings.Join(fields, " ")
}

// command writes an APDU with its header, Lc, data and Le apart.
func (l layout) command(a purse.APDU) string {
	raw := a.Bytes()
	if len(a.Data) == 0 {
		return layout{1, 1, 1, 1}.group(raw)
	}
	head, tail := raw[:5], raw[5+len(a.Data):]
	return strings.TrimSpace(layout{1, 1, 1, 1}.group(head) + "  " + l.group(a.Data) + "  " + plainHex(tail))
}

// send gives the card a command and traces both ways.
func (s *story) send(name string, a purse.APDU, command, answer layout) ([]byte, error) {
	s.say("to card", name, command.command(a))
	data, sw, err := s.card.Send(a)
	if err != nil {
		return nil, err
	}
	s.say("card", "  answers", strings.TrimSpace(answer.group(data)+"  SW "+fmt.Sprintf("%04X", uint16(sw))))
	if sw != purse.SWOK {
		return nil, fmt.Errorf("%s: %v", name, sw)
	}
	return data, nil
}

// initialize begins a load on the card.
func (s *story) initialize(amount purse.Fen, terminal string) (string, error) {
	t, err := purse.ParseTerminal(terminal)
	if err != nil {
		return "", err
	}
	command, err := purse.InitializeForLoad(s.profile, purse.EP, amount, t)
	if err != nil {
		return "", err
	}
	answer, err := s.send("INITIALIZE FOR LOAD", command, initializeLayout, initAnswerLayout)
	return plainHex(answer), err
}

// authorize asks the signer for MAC2 and traces its answer.
func (s *story) authorize(answer string) (*v1.AuthorizeLoadResponse, error) {
	s.last = &v1.AuthorizeLoadRequest{
		KeySet: s.set, CardSerial: storySerial, Purse: v1.Purse_PURSE_EP, AmountFen: storyAmount, TerminalId: storyTerminal,
		InitializeResponse: answer, Date: storyDate, Time: storyTime,
	}
	return s.ask(s.last)
}

func (s *story) ask(request *v1.AuthorizeLoadRequest) (*v1.AuthorizeLoadResponse, error) {
	a, err := s.client.AuthorizeLoad(s.ctx, request)
	if err != nil {
		return nil, err
	}
	what := plain(a.Outcome)
	if a.Mac2 != "" {
		what += "  MAC2 " + a.Mac2
	}
	if a.Key != nil {
		what += fmt.Sprintf("  key %s/%s/%d kcv %s, %s", a.Key.Set, a.Key.Kind, a.Key.Version, a.Key.Kcv,
			strings.TrimPrefix(a.Boundary.String(), "BOUNDARY_"))
	}
	s.say("signer", "AuthorizeLoad", what)
	s.proved(a.Settled)
	return a, nil
}

// approved is initialize and authorize where nothing else than APPROVED will do.
func (s *story) approved() (*v1.AuthorizeLoadResponse, error) {
	answer, err := s.initialize(storyAmount, storyTerminal)
	if err != nil {
		return nil, err
	}
	a, err := s.authorize(answer)
	if err != nil {
		return nil, err
	}
	return a, expect(a.Outcome, v1.Outcome_OUTCOME_APPROVED)
}

// credit gives the card the signer's command.
func (s *story) credit(command string) (tac string, err error) {
	raw, err := hex.DecodeString(command)
	if err != nil {
		return "", err
	}
	apdu, err := purse.ParseAPDU(raw)
	if err != nil {
		return "", err
	}
	answer, err := s.send("CREDIT FOR LOAD", apdu, creditLayout, nil)
	s.creditSteps = s.card.Steps()
	return plainHex(answer), err
}

// complete gives the card the approved command and the signer the card's TAC.
func (s *story) complete(a *v1.AuthorizeLoadResponse) error {
	tac, err := s.credit(a.Command)
	if err != nil {
		return err
	}
	return s.confirm(a.TransactionId, tac)
}

func (s *story) confirm(id, tac string) error {
	c, err := s.client.ConfirmLoad(s.ctx, &v1.ConfirmLoadRequest{TransactionId: id, Tac: tac})
	if err != nil {
		return err
	}
	s.say("signer", "ConfirmLoad", plain(c.Outcome)+"  "+id)
	s.proved(c.Settled)
	return expect(c.Outcome, v1.Outcome_OUTCOME_VERIFIED)
}

func (s *story) proved(settled []*v1.Settled) {
	for _, p := range settled {
		s.say("", "  and so", fmt.Sprintf("%s  %s, by %s", plain(p.Outcome), p.TransactionId,
			strings.ToLower(strings.TrimPrefix(p.Evidence.String(), "EVIDENCE_"))))
	}
}

// balance asks the card and compares.
func (s *story) balance(want purse.Fen) error {
	command, err := purse.QueryBalance(purse.EP)
	if err != nil {
		return err
	}
	answer, err := s.send("GET BALANCE", command, nil, nil)
	if err != nil {
		return err
	}
	got, err := purse.ParseBalance(answer)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("balance %d fen, expected %d", got, want)
	}
	return nil
}

func plain(o v1.Outcome) string { return strings.TrimPrefix(o.String(), "OUTCOME_") }

func expect(got, want v1.Outcome) error {
	if got != want {
		return fmt.Errorf("outcome %s, expected %s", plain(got), plain(want))
	}
	return nil
}

func plainHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
