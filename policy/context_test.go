package policy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each attribute is what the request has, of its own name; absent where it has none.
func TestWhatPoliciesSeeOfARequest(t *testing.T) {
	fen := uint64(12345)
	full := Context{
		Amount: &fen, Purse: "EP", Terminal: "AABBCCDDEEFF", Profile: "pboc-ep", Algorithm: "SM4", Permanent: true,
		Time: time.Date(2024, 2, 4, 23, 59, 58, 0, time.FixedZone("+08", 8*3600)), // a Sunday
	}
	for condition, op := range map[string]Operation{
		`context has amountFen && context.amountFen == 12345`:           AuthorizeLoad,
		`context has purse && context.purse == "EP"`:                    AuthorizeLoad,
		`context has terminal && context.terminal == "AABBCCDDEEFF"`:    AuthorizeLoad,
		`context.profile == "pboc-ep" && context.algorithm == "SM4"`:    AuthorizeLoad,
		`resource.profile == "pboc-ep" && resource.algorithm == "SM4"`:  AuthorizeLoad,
		`resource.kind == "load" && resource in KeySet::"gd-purse"`:     AuthorizeLoad,
		`context.time == datetime("2024-02-04T15:59:58Z")`:              AuthorizeLoad,
		`context.date == 20240204 && context.hour == 23`:                AuthorizeLoad,
		`context.weekday == 7`:                                          ListEntries,
		`resource.algorithm == "SM4" && !(context has purse)`:           ListEntries,
		`context.permanent && resource == Key::"gd-purse/maintenance"`:  SignCommand,
		`context.hour == 23 && context.date == 20240204`:                ListChanges,
		`principal in Role::"platform" && principal == Client::"gd"`:    ListChanges,
		`principal.keySets == [KeySet::"gd-purse"]`:                     ListChanges,
		`action == Action::"ListChanges" && resource is Signer && true`: ListChanges,
	} {
		action := `action == Action::"` + string(op) + `"`
		r := Request{Operation: op, KeySet: "gd-purse", Context: full}
		if op == SignCommand {
			action, r.Context.Command = `action == Action::"ApplicationBlock"`, ApplicationBlock
		}
		if !op.OfKeySet() {
			r.KeySet = ""
		}
		p, caller := small(t, `@id("a") permit (principal, `+action+`, resource) when { `+condition+` };`)
		r.Caller = caller
		_, err := p.Decide(r)
		require.NoError(t, err, condition)
	}
}

// Two requests that differ in what is known of the key set are two questions.
func TestTheIndexTellsKeySetsApart(t *testing.T) {
	p, caller := small(t, `@id("a") permit (principal, action == Action::"AuthorizeLoad", resource)
		when { resource.algorithm == "3DES" && resource.profile == "pboc-ep" && resource in KeySet::"gd-purse" };`)
	for range 2 {
		for _, change := range []func(*Request){
			func(r *Request) { r.Context.Algorithm = "SM4" }, func(r *Request) { r.Context.Profile = "other" }, func(r *Request) { r.KeySet = "hn-purse" },
		} {
			r := load(caller, 5)
			_, err := p.Decide(r)
			require.NoError(t, err)
			change(&r)
			_, err = p.Decide(r)
			require.Error(t, err)
		}
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	p, caller := small(t, `@id("a") permit (principal, action, resource);`)
	r := load(caller, 5)
	r.Kind = "load"
	_, err := p.Decide(r)
	require.NoError(t, err)
	r.Kind = "tac"
	_, err = p.Decide(r)
	require.EqualError(t, err, `permission denied: AuthorizeLoad is not of a key of the kind "tac"`)
	r.Kind, r.KeySet = "", ""
	_, err = p.Decide(r)
	require.EqualError(t, err, `permission denied: AuthorizeLoad is of a key set, and none is named`)
	r.KeySet, r.Operation = "gd-purse", "Invented"
	_, err = p.Decide(r)
	require.Error(t, err, "what is no operation is no right of a permit of every action")
	other := caller
	other.client.Name = "other"
	r.Caller, r.Operation = other, AuthorizeLoad
	_, err = p.Decide(r)
	assert.EqualError(t, err, "permission denied: the caller is not known")
}
