package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var (
	somePrincipals = []string{
		`principal`, `principal == Client::"c0"`, `principal == Client::"c3"`, `principal in Role::"platform"`, `principal in Role::"reader"`,
		`principal is Client`, `principal is Client in Role::"auditor"`,
	}
	someActions = []string{
		`action == Action::"AuthorizeLoad"`, `action in [Action::"AuthorizeLoad", Action::"AuthorizeUnload"]`, `action in Action::"SignCommand"`,
		`action == Action::"EncryptedUpdateBinary"`, `action in [Action::"AuthenticateCard", Action::"Seal"]`, `action == Action::"ListEntries"`, `action`,
	}
	someResources = []string{
		`resource`, `resource in KeySet::"a"`, `resource == KeySet::"b"`, `resource == Key::"a/load"`, `resource is Key`, `resource is Key in KeySet::"b"`,
		`resource is KeySet`,
	}
	someConditions = []string{
		``, `when { resource in principal.keySets }`, `unless { principal.keySets.contains(KeySet::"a") }`, `when { context.hour >= 8 && context.weekday < 6 }`,
		`when { context has amountFen && context.amountFen > 500 }`, `unless { context has purse && context.purse == "EP" }`,
		`when { context.totals.cardDayFen > 700 }`, `unless { context.totals.cardHourCount < 3 } when { context has amountFen && context.amountFen < 900 }`,
		`when { resource.algorithm == "SM4" }`, `when { context.date * 4611686018427387904 > 1 }`, `when { context.totals.clientDayFen * 4611686018427387904 > 0 }`,
		`when { context has terminal && context.terminal like "11*" }`, `when { principal in Role::"platform" || resource is KeySet }`,
	}
)

// drawDocument is a few policies that fit the schema, from pieces of which some do not fit together.
func drawDocument(t *rapid.T, n int) string {
	var text strings.Builder
	for i := range n {
		piece := func(from []string) string { return rapid.SampledFrom(from).Draw(t, "piece") }
		one := fmt.Sprintf("@id(\"p%d\") %s (%s, %s, %s) %s;\n", i, piece([]string{"permit", "permit", "forbid"}),
			piece(somePrincipals), piece(someActions), piece(someResources), piece(someConditions))
		if _, err := New(Rules{Clients: fiveClients(), Policies: []Document{{"d", one}}}); err == nil {
			text.WriteString(one)
		}
	}
	if text.Len() == 0 {
		return "@id(\"all\") permit (principal, action, resource);\n" // nothing that was drawn fits
	}
	return text.String()
}

func fiveClients() (clients []Client) {
	for i, role := range []Role{Platform, Platform, Reader, Officer, Auditor} {
		name := fmt.Sprintf("c%d", i)
		clients = append(clients, Client{Name: name, Identity: "spiffe://test/" + name, Role: role, KeySets: []string{"a", "b"}[:i%3]})
	}
	return clients
}

func drawRequest(t *rapid.T, p *Policy) Request {
	caller, err := p.Identify([]string{fmt.Sprintf("spiffe://test/c%d", rapid.IntRange(0, 4).Draw(t, "client"))})
	require.NoError(t, err)
	r := Request{Caller: caller, Operation: rapid.SampledFrom([]Operation{
		AuthorizeLoad, AuthorizeLoad, AuthorizeUnload, SignCommand, AuthenticateCard, Seal, ListEntries, ProposeChange,
	}).Draw(t, "operation")}
	if r.Operation.OfKeySet() {
		r.KeySet = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key set")
	}
	c := &r.Context
	c.Algorithm, c.Profile = rapid.SampledFrom([]string{"3DES", "SM4"}).Draw(t, "algorithm"), "pboc-ep"
	c.Command = rapid.SampledFrom([]string{"", EncryptedUpdateBinary, CardBlock, AuthenticateExternal}).Draw(t, "command")
	if rapid.Bool().Draw(t, "has amount") {
		amount := rapid.Uint64Range(0, 1000).Draw(t, "amount")
		c.Amount = &amount
	}
	c.Purse = rapid.SampledFrom([]string{"", "ED", "EP"}).Draw(t, "purse")
	c.Terminal = rapid.SampledFrom([]string{"", "112233445566", "AABBCCDDEEFF"}).Draw(t, "terminal")
	if rapid.IntRange(0, 9).Draw(t, "has time") > 0 {
		c.Time = time.Date(2026, 11, rapid.IntRange(1, 28).Draw(t, "day"), rapid.IntRange(0, 23).Draw(t, "hour"), 5, 0, 0, time.UTC)
	}
	return r
}

// The index changes nothing: Decide and Judge say what Cedar says of all policies at once, but that a forbid that Cedar skips, because
// it cannot judge it, forbids.
func TestDecideIsCedar(t *testing.T) {
	allowed, denied, lateOnes := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		document := drawDocument(t, rapid.IntRange(1, 12).Draw(t, "policies"))
		p, err := New(Rules{Clients: fiveClients(), Policies: []Document{{"d", document}}})
		if err != nil { // a forbid over officers
			return
		}
		for range 20 {
			r := drawRequest(t, p)
			totals := Totals{
				CardDayFen: rapid.Uint64Range(0, 1500).Draw(t, "card"), CardHourCount: rapid.Uint64Range(0, 5).Draw(t, "count"),
				ClientDayFen: rapid.Uint64Range(0, 3).Draw(t, "client day"),
			}
			grant, err := p.Decide(r)
			if err == nil {
				if grant.Late() {
					lateOnes++
				}
				err = grant.Judge(totals)
			}
			want := wholeCedar(t, document, r, totals)
			require.Equal(t, want, err == nil, "%s\n%+v\n%+v\n%v", document, r, totals, err)
			if want {
				allowed++
			} else {
				denied++
			}
		}
	})
	require.NotZero(t, allowed)
	require.NotZero(t, denied)
	require.NotZero(t, lateOnes)
}

// wholeCedar asks the library about all policies at once, with every entity there is.
func wholeCedar(t *rapid.T, document string, r Request, totals Totals) bool {
	set, err := cedar.NewPolicySetFromBytes("all", []byte(builtin+document))
	require.NoError(t, err)
	q := newQuestion(r.Caller.client, r)
	entities := types.EntityMap{}
	add := func(e types.Entity) { entities[e.UID] = e }
	for _, c := range fiveClients() {
		add(clientEntity(c))
	}
	for _, name := range []string{"a", "b", "c"} {
		of := q
		of.keySet = name
		add(keySetEntity(of))
		for _, kind := range KeyKinds() {
			of.kind = kind
			add(keyEntity(of))
		}
	}
	for _, action := range theSchema().Actions {
		add(action.Entity)
	}
	add(signerEntity())
	asked := newAsked(r.Caller.client, q)
	context := asked.context(r.Context)
	if _, ok := asked.attributes[totalsAttribute]; ok {
		context[totalsAttribute] = totals.record()
	}
	decision, diagnostic := cedar.Authorize(set, entities, asked.request(types.NewRecord(context)))
	for _, e := range diagnostic.Errors {
		if set.Get(e.PolicyID).Effect() == cedar.Forbid {
			return false
		}
	}
	return decision == cedar.Allow
}
