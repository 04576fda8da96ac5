package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// cardMaker makes cards: the keys come as WRITE KEY commands under the control key, which the card maker has.
type cardMaker struct {
	*testing.T
	profile purse.Profile
	control [16]byte
	client  pursekeeperv1connect.SignerServiceClient
	made    int
}

const makerIssuer = "1000100010001000"

// card is a card with the load and tac keys of a version, which only the token made; the number that it answers is that version.
func (m *cardMaker) card(version uint32) *traveller {
	m.Helper()
	m.made++
	serial := fmt.Sprintf("31053301%08d", m.made)
	factor, err := purse.ParseCardSerial(serial)
	require.NoError(m, err)
	issuer, err := keyderive.ParseFactor(makerIssuer)
	require.NoError(m, err)
	keys, err := softcard.CardKeys(suite.TDES, map[purse.KeyKind]softcard.KeyValue{purse.KeyControl: m.control}, 1, issuer, factor)
	require.NoError(m, err)
	options := softcard.Options{Algorithm: suite.TDES, Profile: m.profile, Serial: serial, Keys: keys, Random: rand.Reader}
	blank := m.insert(options)
	for _, kind := range []string{"load", "tac"} {
		challenge, sw, err := blank.Send(purse.Challenge(m.profile))
		require.NoError(m, err)
		require.Equal(m, purse.SWOK, sw)
		answer, err := m.client.PersonaliseCard(m.Context(), &v1.PersonaliseCardRequest{
			KeySet: "gd", CardSerial: serial, KeyVersion: version, Kinds: []string{kind}, Challenges: []string{fmt.Sprintf("%X", challenge)},
		})
		require.NoError(m, err)
		require.Equal(m, v1.Outcome_OUTCOME_APPROVED, answer.Outcome, answer.Detail)
		require.Equal(m, version, answer.Writes[0].Key.Version)
		raw := blank.Transmit(unhexed(m.T, answer.Writes[0].Command))
		require.Equal(m, []byte{0x90, 0x00}, raw, kind)
	}
	snapshot, err := blank.Snapshot()
	require.NoError(m, err)
	var held struct {
		TestKeys []struct{ Kind, Value string }
	}
	require.NoError(m, json.Unmarshal(snapshot, &held))
	for _, key := range held.TestKeys {
		options.Keys[purse.KeyKind(key.Kind)] = []softcard.Key{{Version: purse.KVER(version), Value: softcard.KeyValue(unhexed(m.T, key.Value))}}
	}
	return &traveller{card: m.insert(options), profile: m.profile, serial: serial}
}

func (m *cardMaker) insert(o softcard.Options) *softcard.Card {
	m.Helper()
	card, err := softcard.Personalise(o)
	require.NoError(m, err)
	apdu, err := purse.SelectApplication(softcard.DefaultAID())
	require.NoError(m, err)
	_, sw, err := card.Send(apdu)
	require.NoError(m, err)
	require.Equal(m, purse.SWOK, sw)
	return card
}

// traveller is a card that its holder loads, here and there.
type traveller struct {
	card    *softcard.Card
	profile purse.Profile
	serial  string
}

// authorise asks a node for a load of one yuan, and gives the card what it answers. tac is "" when nothing was authorised.
func (h *traveller) authorise(ctx context.Context, node pursekeeperv1connect.SignerServiceClient) (
	answer *v1.AuthorizeLoadResponse, tac string, err error,
) {
	terminal, err := purse.ParseTerminal("112233445566")
	if err != nil {
		return nil, "", err
	}
	apdu, err := purse.InitializeForLoad(h.profile, purse.EP, 100, terminal)
	if err != nil {
		return nil, "", err
	}
	init, sw, err := h.card.Send(apdu)
	if err != nil || sw != purse.SWOK {
		return nil, "", fmt.Errorf("INITIALIZE: %v, %w", sw, err)
	}
	answer, err = node.AuthorizeLoad(ctx, &v1.AuthorizeLoadRequest{
		KeySet: "gd", CardSerial: h.serial, Purse: v1.Purse_PURSE_EP, AmountFen: 100, TerminalId: terminal.String(),
		InitializeResponse: fmt.Sprintf("%X", init),
	})
	if err != nil || answer.Outcome != v1.Outcome_OUTCOME_APPROVED {
		return answer, "", err
	}
	command, err := hex.DecodeString(answer.Command)
	if err != nil {
		return answer, "", err
	}
	data, sw, err := purse.SplitAnswer(h.card.Transmit(command))
	if err != nil || sw != purse.SWOK {
		return answer, "", fmt.Errorf("CREDIT: %v, %w", sw, err)
	}
	return answer, strings.ToUpper(fmt.Sprintf("%x", data)), nil
}

// load is a whole load, over two nodes.
func (h *traveller) load(ctx context.Context, here, there pursekeeperv1connect.SignerServiceClient) error {
	answer, tac, err := h.authorise(ctx, here)
	if err != nil {
		return err
	}
	if tac == "" {
		return fmt.Errorf("authorise: %v, %s, key version %d", answer.Outcome, answer.Detail, answer.Key.GetVersion())
	}
	confirmed, err := there.ConfirmLoad(ctx, &v1.ConfirmLoadRequest{TransactionId: answer.TransactionId, Tac: tac})
	if err != nil {
		return err
	}
	if confirmed.Outcome != v1.Outcome_OUTCOME_VERIFIED {
		return fmt.Errorf("confirm: %v, %s", confirmed.Outcome, confirmed.Detail)
	}
	return nil
}

// road is holders who load their cards without end, each at one node and the other by turns.
type road struct {
	*testing.T
	loads atomic.Int64
	stop  context.CancelFunc
	all   sync.WaitGroup

	mu     sync.Mutex // guards failed
	failed []error
}

func travel(t *testing.T, nodes [2]pursekeeperv1connect.SignerServiceClient, holders []*traveller) *road {
	t.Helper()
	f := &road{T: t}
	ctx, cancel := context.WithCancel(t.Context())
	f.stop = cancel
	for n, h := range holders {
		f.all.Go(func() {
			for turn := n; ctx.Err() == nil; turn++ {
				if err := h.load(t.Context(), nodes[turn%2], nodes[(turn/2)%2]); err != nil {
					f.mu.Lock()
					f.failed = append(f.failed, err)
					f.mu.Unlock()
					return
				}
				f.loads.Add(1)
			}
		})
	}
	return f
}

// goesOn waits until so many more loads were made.
func (f *road) goesOn(more int64) {
	f.Helper()
	from := f.loads.Load()
	eventually(f.T, "loads go on", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		require.Empty(f, f.failed)
		return f.loads.Load() >= from+more
	})
}

// ends stops the traffic; not one request of it may have failed.
func (f *road) ends() (loads int64) {
	f.Helper()
	f.stop()
	f.all.Wait()
	require.Empty(f, f.failed)
	return f.loads.Load()
}

func unhexed(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	require.NoError(t, err)
	return b
}
