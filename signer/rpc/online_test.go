package rpc

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/purse"
)

// online is one kind of online transaction of a flavour's card, as the platform runs it over mTLS.
type online struct {
	name               string
	authorize, confirm string // paths
	certificate        string // the field of ConfirmX
	wrong              string // the outcome of a wrong certificate
	request            fields
	initialize         purse.APDU
	prove              purse.TTI
	counterProves      string // what the next answer's counter proves of it
}

func (f flavour) online(t *testing.T) []online {
	t.Helper()
	terminal, err := purse.ParseTerminal("112233445566")
	require.NoError(t, err)
	base := fields{
		"keySet": f.keySet(), "cardSerial": demoCard, "terminalId": terminal.String(), "date": "20240131", "time": "235959",
	}
	load, err := purse.InitializeForLoad(f.profile, purse.EP, 100, terminal)
	require.NoError(t, err)
	unload, err := purse.InitializeForUnload(f.profile, f.profile.UnloadPurse(), 100, terminal)
	require.NoError(t, err)
	return []online{{
		name: "load", authorize: authorizeLoad, confirm: confirmLoad, certificate: "tac", wrong: "OUTCOME_TAC_MISMATCH",
		request: base.with("purse", "PURSE_EP").with("amountFen", 100), initialize: load, prove: purse.TTILoadEP,
		counterProves: "OUTCOME_APPLIED",
	}, {
		name: "unload", authorize: authorizeUnload, confirm: confirmUnload, certificate: "mac3", wrong: "OUTCOME_MAC_MISMATCH",
		request:    base.with("purse", "PURSE_"+f.profile.UnloadPurse().String()).with("amountFen", 100),
		initialize: unload, prove: purse.TTIUnload, counterProves: "OUTCOME_UNDETERMINED",
	}, {
		name: "overdraft", authorize: authorizeOverdraft, confirm: confirmOverdraft, certificate: "tac", wrong: "OUTCOME_TAC_MISMATCH",
		request: base.with("newLimitFen", 700), initialize: purse.InitializeForUpdate(f.profile, terminal), prove: purse.TTIOverdraft,
		counterProves: "OUTCOME_APPLIED",
	}}
}

// Every online transaction, in both suites, with every shipped profile, from the card to the signer over mTLS and back: taken and
// confirmed, refused for each wrong MAC, repeated, and told by the counter when its last answer was lost.
func TestOnlineTransactions(t *testing.T) {
	w := newWorld(t, withFlavours(t))
	platform := w.as("platform")
	for i, f := range flavours(t) {
		for j, o := range f.online(t) {
			t.Run(f.keySet()+" "+o.name, func(t *testing.T) {
				serial := fmt.Sprintf("31052280000%02d%03d", i, j)
				o.request["cardSerial"] = serial
				o.play(t, platform, f.personalise(t, serial))
			})
		}
	}
}

func (o online) ask(t *testing.T, platform caller, answer string) reply {
	t.Helper()
	return platform.post(o.authorize, o.request.with("initializeResponse", answer))
}

func (o online) approved(t *testing.T, platform caller, c reader) (answer string, r reply) {
	t.Helper()
	answer = c.tells(o.initialize)
	r = o.ask(t, platform, answer)
	require.Equal(t, "OUTCOME_APPROVED", r.body["outcome"], "%v", r.body)
	require.Equal(t, "BOUNDARY_PROCESS", r.body["boundary"])
	return answer, r
}

func (o online) confirmed(platform caller, id, certificate string) reply {
	return platform.post(o.confirm, fields{"transactionId": id, o.certificate: certificate})
}

func (o online) play(t *testing.T, platform caller, c reader) {
	answer, first := o.approved(t, platform, c)

	// MAC1: the last four bytes of the answer. Nothing else of the answer may be changed either, but KVER and ALG.
	for _, bit := range []int{0, 31, 32 + 8*4 + 8*2} {
		assert.Equal(t, "OUTCOME_MAC_MISMATCH", o.ask(t, platform, flipped(t, answer, bit)).body["outcome"], "bit %d", bit)
	}
	again := o.ask(t, platform, answer)
	assert.Equal(t, first.body, again.body, "the same request gets the same answer")

	// MAC2: the card refuses a wrong one, and forgets the session.
	c.refuses(flipped(t, first.text("command"), 9), purse.SWMAC)

	// Once more, to the end: two open at one counter.
	_, second := o.approved(t, platform, c)
	certificate := tell(t, c.card, second.text("command"))
	id := second.text("transactionId")
	wrong := o.confirmed(platform, id, flipped(t, certificate, 3))
	assert.Equal(t, o.wrong, wrong.body["outcome"])
	right := o.confirmed(platform, id, certificate)
	require.Equal(t, "OUTCOME_VERIFIED", right.body["outcome"], "%v", right.body)
	require.Len(t, right.body["settled"], 1)
	assert.Equal(t, "OUTCOME_NOT_APPLIED", settledOf(right)[first.text("transactionId")])
	assert.Equal(t, "OUTCOME_VERIFIED", o.confirmed(platform, id, certificate).body["outcome"], "the same again")

	o.lost(t, platform, c)
}

// lost is a transaction that the card took and whose last answer was lost: its counter tells of it, or GET TRANSACTION PROVE.
func (o online) lost(t *testing.T, platform caller, c reader) {
	t.Helper()
	answer, third := o.approved(t, platform, c)
	tell(t, c.card, third.text("command"))
	_, fourth := o.approved(t, platform, c)
	assert.Equal(t, o.counterProves, settledOf(fourth)[third.text("transactionId")])

	init, err := purse.ParseLoadInitHex(answer[:32]) // every answer begins with BAL and ONSN
	require.NoError(t, err)
	prove, err := purse.TransactionProve(o.prove, init.Counter)
	require.NoError(t, err)
	proof := c.tells(prove)
	certificate := proof[8:]
	if o.name == "unload" {
		certificate = proof[:8]
	}
	verified := o.confirmed(platform, third.text("transactionId"), certificate)
	assert.Equal(t, "OUTCOME_VERIFIED", verified.body["outcome"], "%v", verified.body)
}

// settledOf is what an answer proved, by transaction.
func settledOf(r reply) map[string]any {
	all := map[string]any{}
	list, _ := r.body["settled"].([]any)
	for _, one := range list {
		settled, _ := one.(map[string]any)
		id, _ := settled["transactionId"].(string)
		all[id] = settled["outcome"]
	}
	return all
}

// An unload belongs to the profile's purse, and no confirmation takes another's transaction.
func TestOnlineTransactionsAreNotConfused(t *testing.T) {
	w := newWorld(t, withFlavours(t))
	platform := w.as("platform")
	f := flavours(t)[0]
	c := f.personalise(t, demoCard)
	kinds := f.online(t)
	for _, o := range kinds {
		_, r := o.approved(t, platform, c)
		certificate := tell(t, c.card, r.text("command"))
		for _, other := range kinds {
			if other.name == o.name {
				continue
			}
			refused := other.confirmed(platform, r.text("transactionId"), certificate)
			assert.Equal(t, "invalid_argument", refused.code(), "%s as %s", o.name, other.name)
			assert.Contains(t, refused.message(), "transactionId: is not a", "%s as %s", o.name, other.name)
		}
	}
	other := "PURSE_ED"
	if f.profile.UnloadPurse() == purse.ED {
		other = "PURSE_EP"
	}
	unload := kinds[1]
	refused := platform.post(unload.authorize, unload.request.with("purse", other).with("initializeResponse", demoAnswer+demoMAC1))
	assert.Equal(t, "invalid_argument", refused.code())
	assert.Contains(t, refused.message(), "purse: ")
}
