package signer

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// ruled is a bench whose platform has the shipped rights, less what a document forbids.
func ruled(t testing.TB, forbids string, change ...func(*Config)) *bench {
	t.Helper()
	rules, err := policy.New(policy.Rules{
		Clients: []policy.Client{{
			Name: "platform", Identity: testIdentity, Role: policy.Platform, KeySets: []string{"demo", "demo-sm4"},
		}},
		Policies: append(policy.Shipped(), policy.Document{Name: "less", Text: forbids}),
	})
	require.NoError(t, err)
	return newBench(t, append([]func(*Config){func(c *Config) { c.Policy = rules }}, change...)...)
}

// However a terminal is written, the policies about it are met; and a request that is not well-formed meets them too.
func TestNoSpellingSlipsPastAForbid(t *testing.T) {
	b := ruled(t, `@id("no-terminal") forbid (principal, action == Action::"AuthorizeLoad", resource)
		when { context has terminal && context.terminal == "AABBCCDDEEFF" };
		@id("no-amount") forbid (principal, action == Action::"AuthorizeLoad", resource) when { context has amountFen && context.amountFen > 100 };
		@id("no-purse") forbid (principal, action == Action::"AuthorizeLoad", resource) when { context has purse && context.purse == "ED" };`)
	tests := []struct {
		name   string
		change func(*LoadRequest)
		by     string // the policy that denies
	}{
		{"as it is", func(r *LoadRequest) { r.TerminalID = "AABBCCDDEEFF" }, "no-terminal"},
		{"small letters", func(r *LoadRequest) { r.TerminalID = "aabbccddeeff" }, "no-terminal"},
		{"spaces", func(r *LoadRequest) { r.TerminalID = " aabb CCDD eeFF " }, "no-terminal"},
		{"with a malformed answer", func(r *LoadRequest) { r.TerminalID, r.InitializeResponse = "aabbccddeeff", "zz" }, "no-terminal"},
		{"with a malformed amount", func(r *LoadRequest) { r.TerminalID, r.AmountFen = "aabbccddeeff", 0 }, "no-terminal"},
		{"an amount", func(r *LoadRequest) { r.AmountFen = 101 }, "no-amount"},
		{"an amount with a malformed terminal", func(r *LoadRequest) { r.AmountFen, r.TerminalID = 101, "x" }, "no-amount"},
		{"a purse", func(r *LoadRequest) { r.Purse = purse.ED }, "no-purse"},
	}
	for _, test := range tests {
		r := demoRequest()
		test.change(&r)
		answer, err := b.AuthorizeLoad(context.Background(), b.caller, r)
		var denied *policy.Denied
		require.ErrorAs(t, err, &denied, test.name)
		assert.Contains(t, denied.Reason, "policy "+test.by+" ", test.name)
		assert.Empty(t, answer.MAC2, test.name)
	}
	for _, change := range []func(*LoadRequest){
		func(r *LoadRequest) { r.TerminalID = "AABBCCDDEE" }, func(r *LoadRequest) { r.AmountFen = 1 << 40 }, func(r *LoadRequest) { r.Purse = 7 },
	} {
		r := demoRequest()
		change(&r)
		answer, err := b.AuthorizeLoad(context.Background(), b.caller, r)
		var field *purse.FieldError
		require.ErrorAs(t, err, &field, "what is not well-formed is refused by its reader")
		assert.Empty(t, answer.MAC2)
	}
	denials := 0
	for _, e := range b.entries(t) {
		if e.Outcome == outcomeDenied {
			denials++
			assert.Equal(t, b.current.Load().policy.Digest(), e.Policy)
		}
	}
	assert.Equal(t, len(tests), denials)
}

// A retry is asked too: what is forbidden meanwhile is not answered from the record.
func TestARetryIsAskedToo(t *testing.T) {
	b := ruled(t, `@id("hours") forbid (principal, action == Action::"AuthorizeLoad", resource) unless { context.hour < 16 };`,
		func(c *Config) { c.KeySets[0].Location = time.UTC })
	answer, err := b.AuthorizeLoad(context.Background(), b.caller, demoRequest())
	require.NoError(t, err)
	require.Equal(t, ledger.Approved, answer.Outcome)
	b.clock = b.clock.Add(time.Second)
	_, err = b.AuthorizeLoad(context.Background(), b.caller, demoRequest())
	require.ErrorContains(t, err, "policy hours ")
}

// The moment is that of the key set's time zone.
func TestTheMomentIsOfTheKeySetsZone(t *testing.T) {
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	require.NoError(t, err)
	const lastOfJanuary = `@id("day") forbid (principal, action == Action::"AuthorizeLoad", resource)
		unless { context.date == 20240131 && context.hour == 23 && context.weekday == 3 && context.time == datetime("2024-01-31T15:59:59Z") };`
	b := ruled(t, lastOfJanuary, func(c *Config) { c.KeySets[0].Location = shanghai })
	_, err = b.AuthorizeLoad(context.Background(), b.caller, demoRequest())
	require.NoError(t, err)
	b = ruled(t, lastOfJanuary, func(c *Config) { c.KeySets[0].Location = time.UTC })
	_, err = b.AuthorizeLoad(context.Background(), b.caller, demoRequest())
	require.ErrorContains(t, err, "policy day ")
}

// Each command is a right of its own, and an update whose data the card profile encrypts is another than one with a MAC alone.
func TestEncryptedUpdateIsARightOfItsOwn(t *testing.T) {
	encrypts, err := purse.ParseProfile([]byte("name: encrypting\nupdateData: encrypted\n"))
	require.NoError(t, err)
	plain, err := purse.ParseProfile([]byte("name: plain\nupdateData: plain\n"))
	require.NoError(t, err)
	update := CommandRequest{
		KeySet: "demo", CardSerial: "3105228000001117", Command: UpdateBinary, Challenge: "11223344", P1: "95", P2: "00", Data: "0102",
	}
	for _, profile := range []purse.Profile{encrypts, plain} {
		b := ruled(t, `@id("no-oracle") forbid (principal, action in [Action::"EncryptedUpdateBinary", Action::"EncryptedUpdateRecord"], resource);`,
			func(c *Config) { c.KeySets[0].Profile = profile })
		for _, command := range []Command{UpdateBinary, UpdateRecord} {
			r := update
			r.Command = command
			answer, err := b.SignCommand(context.Background(), b.caller, r)
			if profile.UpdateEncrypted() {
				require.ErrorContains(t, err, "policy no-oracle ")
				require.Empty(t, answer.Command)
			} else {
				require.NoError(t, err)
				require.NotEmpty(t, answer.Outcome)
			}
		}
		block := CommandRequest{KeySet: "demo", CardSerial: "3105228000001117", Command: CardBlock, Challenge: "11223344"}
		_, err := b.SignCommand(context.Background(), b.caller, block)
		require.NoError(t, err, "the other commands stay")
	}
	b := ruled(t, `@id("for-good") forbid (principal, action == Action::"ApplicationBlock", resource) when { context.permanent };
		@id("proof") forbid (principal, action == Action::"AuthenticateExternal", resource is Key) when { resource.kind == "control" };`)
	block := CommandRequest{KeySet: "demo", CardSerial: "3105228000001117", Command: ApplicationBlock, Challenge: "11223344"}
	_, err = b.SignCommand(context.Background(), b.caller, block)
	require.NoError(t, err)
	block.Permanent = true
	_, err = b.SignCommand(context.Background(), b.caller, block)
	require.ErrorContains(t, err, "policy for-good ")
	_, err = b.AuthenticateCard(context.Background(), b.caller, AuthenticateRequest{
		KeySet: "demo", CardSerial: "3105228000001117", Direction: External, Challenge: "1122334455667788",
	})
	require.ErrorContains(t, err, "policy proof ")
}

// A command that is none, and a direction that is none, are judged as the group, and refused by their reader.
func TestWhatNamesNoCommandIsRefused(t *testing.T) {
	b := newBench(t)
	var field *purse.FieldError
	_, err := b.SignCommand(context.Background(), b.caller, CommandRequest{KeySet: "demo", CardSerial: "3105228000001117"})
	require.ErrorAs(t, err, &field)
	assert.Equal(t, "command", field.Field)
	_, err = b.AuthenticateCard(context.Background(), b.caller, AuthenticateRequest{KeySet: "demo", CardSerial: "3105228000001117"})
	require.ErrorAs(t, err, &field)
	assert.Equal(t, "direction", field.Field)
	for _, e := range b.entries(t) {
		assert.NotEqual(t, audit.Event(policy.SignCommand), e.Event)
	}
}

// What every other operation tells: the amount of an overdraft is its new limit, a type tells the purse, an id names it.
func TestWhatOtherRequestsTell(t *testing.T) {
	b := newBench(t)
	limit := uint64(500)
	overdraft := OverdraftRequest{NewLimitFen: &limit, TerminalID: "aa2233445566"}
	asked := overdraft.asks()
	require.NotNil(t, asked.Amount)
	assert.Equal(t, limit, *asked.Amount)
	assert.Equal(t, "ED", asked.Purse)
	assert.Equal(t, "AA2233445566", asked.Terminal)
	none := uint64(0)
	overdraft.NewLimitFen = &none
	require.NotNil(t, overdraft.asks().Amount, "0 is a limit")
	beyond := uint64(1 << 24)
	overdraft.NewLimitFen = &beyond
	assert.Nil(t, overdraft.asks().Amount)

	for code, which := range map[string]string{"05": "ED", "06": "EP", "09": "EP", "03": b.view().keys.sets["demo"].Profile.UnloadPurse().String(), "44": "", "": ""} {
		assert.Equal(t, which, b.view().asksOfType("demo", code, 5, "").Purse, code)
	}
	assert.Empty(t, b.view().asksOfType("no such", "03", 5, "").Purse)

	b = ruled(t, `@id("settled") forbid (principal, action in [Action::"ConfirmLoad", Action::"SettleLoad", Action::"BeginSettlement"], resource)
		when { context has purse && context.purse == "ED" };`)
	for _, err := range []error{
		errorOf(b.ConfirmLoad(context.Background(), b.caller, "demo/3105228000001117/ED/LOAD/0007/A1B2C3D4", "5D5364F0")),
		errorOf(b.SettleLoad(context.Background(), b.caller, "demo/3105228000001117/ED/SETTLEMENT/0011223344556677", "")),
		errorOf(b.BeginSettlement(context.Background(), b.caller, "demo", "3105228000001117", "", purse.ED)),
	} {
		require.ErrorContains(t, err, "policy settled ")
	}
}

func errorOf[T any](_ T, err error) error { return err }

// Policies name kinds as keys have them, commands as SignCommand does, and each command's kind is that of its key.
func TestPoliciesNameKindsAndCommandsAsTheyAre(t *testing.T) {
	var kinds []string
	for _, kind := range keyderive.Kinds() {
		kinds = append(kinds, kind.String())
	}
	assert.ElementsMatch(t, kinds, policy.KeyKinds())
	named := map[string]bool{"": true}
	for command := CardBlock; command <= UpdateRecord; command++ {
		pin := lentPIN{}
		what, err := (&CommandRequest{Command: command, P1: "00", P2: "00", Data: "00"}).what(&pin)
		require.NoError(t, err)
		for _, encrypted := range []bool{false, true} {
			right := command.right(encrypted)
			named[right] = true
			assert.Equal(t, string(what.Key()), policy.SignCommand.Kind(right), right)
		}
	}
	assert.Equal(t, External.kind().String(), policy.AuthenticateCard.Kind(External.right()))
	assert.Equal(t, Internal.kind().String(), policy.AuthenticateCard.Kind(Internal.right()))
	for _, a := range policy.Actions() {
		if a.Operation == policy.SignCommand {
			assert.True(t, named[a.Command], "%v is a command of no request", a)
		}
	}
	assert.Empty(t, Command(0).right(true))
	assert.Empty(t, Direction(0).right())
}

// Looks are asked with what is known of each key set, and what officers decide on with the moment.
func TestLooksAreAskedWithTheirKeySet(t *testing.T) {
	rules, err := policy.New(policy.Rules{
		Clients: []policy.Client{{Name: "platform", Identity: testIdentity, Role: policy.Platform}},
		Policies: []policy.Document{{Name: "looks", Text: `
			@id("sets") permit (principal, action == Action::"ListKeySets", resource) when { resource.algorithm == "SM4" && context.hour == 15 };
			@id("one") permit (principal, action == Action::"ListTransactions", resource) when { context.algorithm == "SM4" && context.profile == "pboc-ep" };
			@id("changes") permit (principal, action == Action::"ListChanges", resource) when { context.hour == 15 && context.date == 20240131 };`}},
	})
	require.NoError(t, err)
	b := newBench(t, func(c *Config) {
		c.Policy = rules
		for i := range c.KeySets {
			c.KeySets[i].Location = time.UTC
		}
	})
	listed, err := b.ListKeySets(context.Background(), b.caller)
	require.NoError(t, err)
	require.Len(t, listed, 1)
	assert.Equal(t, "demo-sm4", listed[0].Name)
	_, _, err = b.Transactions(context.Background(), b.caller, ListRequest{KeySet: "demo-sm4"})
	require.NoError(t, err)
	_, _, err = b.Transactions(context.Background(), b.caller, ListRequest{KeySet: "demo"})
	require.Error(t, err)
	_, err = b.Changes(context.Background(), b.caller, store.RequestFilter{})
	require.ErrorIs(t, err, ErrNoOffice, "it may: there is only nobody who decides")
	b.clock = b.clock.Add(time.Second)
	var denied *policy.Denied
	_, err = b.Changes(context.Background(), b.caller, store.RequestFilter{})
	require.ErrorAs(t, err, &denied)
}
