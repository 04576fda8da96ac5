package rpc

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer"
)

// issueKeySets puts every issue on one token, all masters at the issue's boundary.
func issueKeySets(t *testing.T) (sets []signer.KeySet) {
	t.Helper()
	token := issueToken(t)
	for _, i := range issues(t) {
		sets = append(sets, i.keySet(t, token, func(keyderive.Kind) keyderive.Boundary { return i.boundary }))
	}
	return sets
}

// cardKinds are the ten kinds in the order of EPURSE.md §1, the control key last.
var cardKinds = []string{
	"purchase", "load", "unload", "overdraft", "tac", "pin-unblock", "pin-reload", "maintenance", "internal-auth", "control",
}

// From a blank card to money on it: every key is written through the signer, each under a challenge of the card, and what the
// card then holds are the keys that its maker would compute of the same masters. Nobody but the card saw one.
func TestABlankCardIsPersonalisedAndLoaded(t *testing.T) {
	b := newBureau(t, issueKeySets(t)...)
	for _, i := range issues(t) {
		t.Run(i.set(), func(t *testing.T) {
			b := &bureau{b.world, b.client}
			card := i.blank(t)
			plan, err := b.client.PersonaliseCard(t.Context(), &v1.PersonaliseCardRequest{KeySet: i.set(), CardSerial: demoCard, ControlKeyVersion: 1})
			require.NoError(t, err)
			require.Len(t, plan.Writes, len(cardKinds))
			wanted := map[string]string{}
			for n, kind := range cardKinds {
				planned := plan.Writes[n]
				require.Equal(t, kind, planned.Key.Kind)
				require.Empty(t, planned.Command)
				require.Equal(t, "BOUNDARY_"+i.boundary.String(), planned.Boundary.String())
				answer := b.cardWrite(i, kind, i.challenge(t, card), 1)
				require.EqualValues(t, 1, answer.Key.Version)
				require.Equal(t, "control", answer.Key.Kind)
				require.Equal(t, planned.Key.String(), answer.Writes[0].Key.String())
				require.Equal(t, purse.SWOK, says(t, card, answer.Writes[0].Command), kind)
				parsed, err := keyderive.ParseKind(kind)
				require.NoError(t, err)
				wanted[kind] = keyText(i.diversified(t, parsed, int(planned.Key.Version), demoCard))
			}
			require.EqualValues(t, 2, plan.Writes[len(cardKinds)-1].Key.Version, "the newest control key replaces the one that was there")
			assert.True(t, maps.Equal(wanted, keysOf(t, card)), "the card has other keys than its maker would give it")

			// The control key was replaced: the old one opens nothing any more, the new one does.
			assert.Equal(t, purse.SWSecureMAC, says(t, card, b.cardWrite(i, "load", i.challenge(t, card), 1).Writes[0].Command))
			assert.Equal(t, purse.SWOK, says(t, card, b.cardWrite(i, "load", i.challenge(t, card), 0).Writes[0].Command))
			b.loads(t, i, card)
			buysWithoutNetwork(t, i, card)
		})
	}
}

// loads has the platform load the card that the bureau made, in both purses.
func (b *bureau) loads(t *testing.T, i issue, card *softcard.Card) {
	t.Helper()
	platform := b.as("platform").signer(connect.WithGRPC())
	for _, p := range []purse.Purse{purse.ED, purse.EP} {
		terminal := purse.Terminal{1, 2, 3, 4, 5, 6}
		init, err := purse.InitializeForLoad(i.profile, p, 250, terminal)
		require.NoError(t, err)
		ask := &v1.AuthorizeLoadRequest{
			KeySet: i.set(), CardSerial: demoCard, Purse: v1.Purse(p), AmountFen: 250, TerminalId: terminal.String(),
			InitializeResponse: tell(t, card, init.Hex()),
		}
		answer, err := platform.AuthorizeLoad(t.Context(), ask)
		require.NoError(t, err)
		require.Equal(t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome, answer.Detail)
		confirmed, err := platform.ConfirmLoad(t.Context(), &v1.ConfirmLoadRequest{
			TransactionId: answer.TransactionId, Tac: tell(t, card, answer.Command),
		})
		require.NoError(t, err)
		require.Equal(t, v1.Outcome_OUTCOME_VERIFIED, confirmed.Outcome)
		balance, err := purse.QueryBalance(p)
		require.NoError(t, err)
		require.Equal(t, "000004e2", tell(t, card, balance.Hex()))
	}
}

// buysWithoutNetwork has a terminal whose module keeps the purchase master take money from the card (EPURSE.md §7).
func buysWithoutNetwork(t *testing.T, i issue, card *softcard.Card) {
	t.Helper()
	terminal := purse.Terminal{1, 2, 3, 4, 5, 6}
	module, err := softcard.NewModule(softcard.ModuleOptions{
		Algorithm: i.alg, Profile: i.profile, Terminal: terminal, Levels: 2, Random: new(cardRandom),
		Purchase: map[purse.KVER]softcard.KeyValue{1: issueMasters()[keyderive.KindPurchase][0]},
	})
	require.NoError(t, err)
	begin, err := purse.InitializeForPurchase(i.profile, purse.TTIPurchaseEP, 30, terminal)
	require.NoError(t, err)
	init, err := purse.ParsePurchaseInit(unhex(t, tell(t, card, begin.Hex())))
	require.NoError(t, err)
	date, clock := purse.Date{0x20, 0x24, 0x01, 0x31}, purse.Time{0x23, 0x59, 0x59}
	ask, err := purse.InitSAMForPurchase(purse.SAMPurchase{
		Random: init.Random, Counter: init.Counter, Amount: 30, TTI: purse.TTIPurchaseEP, Date: date, Time: clock, KVER: init.KVER,
		ALG: init.ALG, Factors: purse.CardFirst{[8]byte(unhex(t, demoCard)), [8]byte(unhex(t, testIssuer))},
	})
	require.NoError(t, err)
	data, sw, err := module.Send(ask)
	require.NoError(t, err)
	require.Equal(t, purse.SWOK, sw)
	mac1, err := purse.ParseSAMAnswer(data)
	require.NoError(t, err)
	buy, err := purse.NewPurchase(init, purse.TTIPurchaseEP, mac1.TSN, 30, terminal)
	require.NoError(t, err)
	proof, err := purse.ParseDebitAnswer(unhex(t, tell(t, card, buy.Debit(i.profile, date, clock, mac1.MAC1).Hex())))
	require.NoError(t, err)
	require.Equal(t, purse.SWOK, says(t, module, purse.CreditSAMForPurchase(proof.MAC2).Hex()))
}

// A card takes a WRITE KEY as the signer made it for its challenge, and in no other form.
func TestWrongWriteKeysAreRefusedByTheCard(t *testing.T) {
	b := newBureau(t, issueKeySets(t)...)
	for _, i := range issues(t) {
		t.Run(i.set(), func(t *testing.T) {
			b := &bureau{b.world, b.client}
			card := i.blank(t)
			before := keysOf(t, card)
			first := i.challenge(t, card)
			made := b.cardWrite(i, "load", first, 1).Writes[0].Command
			again := b.cardWrite(i, "load", strings.ToLower(first), 1).Writes[0].Command
			assert.Equal(t, made, again, "the same request, the same command")
			_ = i.challenge(t, card)
			assert.Equal(t, purse.SWSecureMAC, says(t, card, made), "of another challenge")
			for bit := range 8 {
				broken := unhex(t, b.cardWrite(i, "load", i.challenge(t, card), 1).Writes[0].Command)
				broken[5+bit*(len(broken)-6)/7] ^= 1 << bit
				assert.Equal(t, purse.SWSecureMAC, says(t, card, fmt.Sprintf("%X", broken)), "bit %d", bit)
			}
			assert.Equal(t, purse.SWNoChallenge, says(t, card, made), "no challenge")
			assert.True(t, maps.Equal(before, keysOf(t, card)))
			other, err := b.client.PersonaliseCard(t.Context(), &v1.PersonaliseCardRequest{
				KeySet: i.set(), CardSerial: "3105228000001118", ControlKeyVersion: 1, Kinds: []string{"load"}, Challenges: []string{i.challenge(t, card)},
			})
			require.NoError(t, err)
			assert.Equal(t, purse.SWSecureMAC, says(t, card, other.Writes[0].Command), "of another card")
			assert.True(t, maps.Equal(before, keysOf(t, card)))
		})
	}
}

// A reader's secure module gets its keys as a card does, under its own control key, which goes last.
func TestAModuleIsPersonalised(t *testing.T) {
	b := newBureau(t, issueKeySets(t)...)
	for _, i := range issues(t) {
		t.Run(i.set(), func(t *testing.T) {
			b := &bureau{b.world, b.client}
			module, err := softcard.NewModule(softcard.ModuleOptions{
				Algorithm: i.alg, Profile: i.profile, Device: [8]byte(unhex(t, demoDevice)), Random: new(cardRandom),
				Control: i.diversified(t, keyderive.KindReaderControl, 1, demoDevice),
			})
			require.NoError(t, err)
			plan, err := b.client.PersonalisePSAM(t.Context(), &v1.PersonalisePSAMRequest{KeySet: i.set(), DeviceNumber: demoDevice, ControlKeyVersion: 1})
			require.NoError(t, err)
			require.Len(t, plan.Writes, 2)
			assert.Equal(t, "reader", plan.Writes[0].Key.Kind)
			assert.Equal(t, "reader-control", plan.Writes[1].Key.Kind)

			early := b.moduleWrite(i, "reader", i.challenge(t, module), 1).Writes[0].Command
			_ = i.challenge(t, module)
			assert.Equal(t, purse.SWSecureMAC, says(t, module, early))
			broken := unhex(t, b.moduleWrite(i, "reader", i.challenge(t, module), 1).Writes[0].Command)
			broken[len(broken)-1] ^= 1
			assert.Equal(t, purse.SWSecureMAC, says(t, module, fmt.Sprintf("%X", broken)))
			_, written := module.TestOnlyKey(purse.KeyReader)
			assert.False(t, written)

			for n, kind := range []string{"reader", "reader-control"} {
				answer := b.moduleWrite(i, kind, i.challenge(t, module), 1)
				assert.Equal(t, "reader-control", answer.Key.Kind)
				require.Equal(t, purse.SWOK, says(t, module, answer.Writes[0].Command), kind)
				parsed, err := keyderive.ParseKind(kind)
				require.NoError(t, err)
				has, _ := module.TestOnlyKey(purse.KeyKind(kind))
				assert.True(t, has == i.diversified(t, parsed, n+1, demoDevice), kind)
			}
			assert.Equal(t, purse.SWSecureMAC, says(t, module, b.moduleWrite(i, "reader", i.challenge(t, module), 1).Writes[0].Command))
			assert.Equal(t, purse.SWOK, says(t, module, b.moduleWrite(i, "reader", i.challenge(t, module), 0).Writes[0].Command))
			card := i.blank(t)
			foreign := b.moduleWrite(i, "reader", i.challenge(t, card), 1).Writes[0].Command
			assert.Equal(t, purse.SWSecureMAC, says(t, card, foreign), "a card does not know a module's control key")
		})
	}
}

// The control key may stay in the token; a key to be written may not, and the refusal says so and is recorded.
func TestKeysOfTheTokenAreUsedAndNotIssued(t *testing.T) {
	i := firstIssue(t)
	b := newBureau(t, i.keySet(t, issueToken(t), func(kind keyderive.Kind) keyderive.Boundary {
		if kind == keyderive.KindControl || kind == keyderive.KindUnload {
			return keyderive.BoundaryToken
		}
		return keyderive.BoundaryCard
	}))
	card := i.blank(t)
	answer := b.cardWrite(i, "load", i.challenge(t, card), 1)
	assert.Equal(t, v1.Boundary_BOUNDARY_TOKEN, answer.Boundary)
	assert.Equal(t, v1.Boundary_BOUNDARY_CARD, answer.Writes[0].Boundary)
	require.Equal(t, purse.SWOK, says(t, card, answer.Writes[0].Command))

	caller := b.as("personaliser")
	body := fields{"keySet": i.set(), "cardSerial": demoCard}
	challenge := i.challenge(t, card)
	for name, ask := range map[string]fields{
		"unload":  body.with("kinds", []string{"unload"}).with("challenges", []string{challenge}),
		"control": body.with("kinds", []string{"control"}).with("challenges", []string{challenge}),
		"a plan":  body,
		"second":  body.with("kinds", []string{"load", "unload"}).with("challenges", []string{challenge, challenge}),
	} {
		before := len(b.entries())
		r := caller.post(personaliseCard, ask)
		assert.Equal(t, "failed_precondition", r.code(), "%s: %v", name, r.body)
		kind := "unload"
		if name == "control" {
			kind = name
		}
		assert.Contains(t, r.message(), "key set "+i.set()+": the "+kind+" key, version ", name)
		assert.Contains(t, r.message(), "has the TOKEN boundary", name)
		assert.NotContains(t, r.body, "writes", name)
		entries := b.entries()[before:]
		require.Len(t, entries, 1)
		assert.Equal(t, "FAILED_PRECONDITION", entries[0].Outcome, name)
		assert.Equal(t, kind, entries[0].Key.Kind, name)
		assert.Equal(t, demoCard, entries[0].Card, name)
	}
}

// The record says what was written where, from which master, under which challenge; no command and no key is in it, nor in the log.
func TestThePersonalisationIsRecorded(t *testing.T) {
	i := firstIssue(t)
	b := newBureau(t, i.keySet(t, issueToken(t), func(keyderive.Kind) keyderive.Boundary { return i.boundary }))
	card := i.blank(t)
	challenge := i.challenge(t, card)
	made := b.cardWrite(i, "tac", challenge, 1)
	psam := b.moduleWrite(i, "reader", challenge, 1)
	plan, err := b.client.PersonaliseCard(t.Context(), &v1.PersonaliseCardRequest{KeySet: i.set(), CardSerial: demoCard})
	require.NoError(t, err)
	assert.Contains(t, plan.Detail, "nothing was signed")

	entries := b.entries()
	e := entries[made.AuditIndex]
	assert.Equal(t, "PersonaliseCard", string(e.Event))
	assert.Equal(t, "APPROVED", e.Outcome)
	assert.Equal(t, "personaliser", e.Client)
	assert.Equal(t, demoCard, e.Card)
	assert.Equal(t, "control", e.Key.Kind)
	assert.Equal(t, 1, e.Key.Version)
	assert.Equal(t, made.Key.Kcv, e.Key.KCV)
	assert.Equal(t, i.boundary.String(), e.Boundary)
	require.Len(t, e.Writes, 1)
	assert.Equal(t, challenge, e.Writes[0].Challenge)
	assert.Equal(t, i.boundary.String(), e.Writes[0].Boundary)
	assert.Equal(t, made.Writes[0].Key.Kcv, e.Writes[0].Key.KCV)
	assert.Equal(t, "tac", e.Writes[0].Key.Kind)

	p := entries[psam.AuditIndex]
	assert.Equal(t, "PersonalisePSAM", string(p.Event))
	assert.Equal(t, demoDevice, p.Device)
	assert.Empty(t, p.Card)
	planned := entries[plan.AuditIndex]
	require.Len(t, planned.Writes, len(cardKinds))
	assert.Empty(t, planned.Writes[0].Challenge)
	assert.Contains(t, planned.Detail, "a plan")

	whole, err := json.Marshal(entries)
	require.NoError(t, err)
	for _, text := range []string{string(whole), b.logs.String()} {
		for _, command := range []string{made.Writes[0].Command, psam.Writes[0].Command} {
			assert.NotContains(t, text, command[10:26])
			assert.NotContains(t, text, command[len(command)-8:])
		}
		key := keyText(i.diversified(t, keyderive.KindTAC, 1, demoCard))
		assert.NotContains(t, text, key[:16])
	}
}
