package rpc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/store"
)

const testChallenge = "01020304"

// malformedPersonalisations are requests that are refused before a key is touched.
func malformedPersonalisations(set string) []refusal {
	card := fields{"keySet": set, "cardSerial": demoCard, "kinds": []string{"load", "control"}, "challenges": []string{testChallenge, testChallenge}}
	module := fields{"keySet": set, "deviceNumber": demoDevice, "kinds": []string{"reader"}, "challenges": []string{testChallenge}}
	list := func(all ...string) []string { return all }
	const elsewhere = "is none that goes there from this key set, expected one of"
	return []refusal{
		{"card missing", personaliseCard, card.with("cardSerial", nil), invalid, "cardSerial: 0 hex digits, expected 1 to 20"},
		{"issuer of a set with fixed factors", personaliseCard, card.with("issuerId", "2000200020002000"), invalid, "issuerId: is not the issuer factor of this key set"},
		{"unknown set", personaliseCard, card.with("keySet", "nope"), "not_found", "keySet: is not known"},
		{"version over a byte", personaliseCard, card.with("keyVersion", 256), invalid, "keyVersion: is 256, expected 1 to 255, or 0 for the newest active"},
		{"version negative", personaliseCard, card.with("keyVersion", -1), invalid, "keyVersion: not a value of type uint32"},
		{"control version over a byte", personaliseCard, card.with("controlKeyVersion", 300), invalid, "controlKeyVersion: is 300, expected 1 to 255"},
		{"unknown kind", personaliseCard, card.with("kinds", list("load", "lod")), invalid, "kinds[1]: is no kind of key, expected one of [purchase load"},
		{"kind in capitals", personaliseCard, card.with("kinds", list("LOAD", "control")), invalid, "kinds[0]: is no kind of key"},
		{"empty kind", personaliseCard, card.with("kinds", list("load", "")), invalid, "kinds[1]: is no kind of key"},
		{"kind of a module", personaliseCard, card.with("kinds", list("reader", "control")), invalid, "kinds[0]: reader: " + elsewhere},
		{"kind twice", personaliseCard, card.with("kinds", list("load", "load")), invalid, "kinds[1]: load: is there twice"},
		{"control not last", personaliseCard, card.with("kinds", list("control", "load")), invalid, "kinds[1]: load: comes after the control key"},
		{"one challenge of two", personaliseCard, card.with("challenges", list(testChallenge)), invalid, "challenges: 1, expected none or one for each of 2 kinds"},
		{"a challenge too many", personaliseCard, card.with("challenges", list(testChallenge, testChallenge, testChallenge)), invalid, "challenges: 3, expected"},
		{"challenges of no kinds", personaliseCard, card.with("kinds", nil), invalid, "challenges: 2, expected none or one for each of 10 kinds"},
		{"challenge of 8 bytes", personaliseCard, card.with("challenges", list(testChallenge, "0102030405060708")), invalid, "challenges[1]: 8 bytes, expected 4"},
		{"challenge of 3 bytes", personaliseCard, card.with("challenges", list("010203", testChallenge)), invalid, "challenges[0]: 3 bytes, expected 4"},
		{"challenge empty", personaliseCard, card.with("challenges", list(testChallenge, "")), invalid, "challenges[1]: 0 bytes, expected 4"},
		{"challenge not hex", personaliseCard, card.with("challenges", list(testChallenge, "0102030G")), invalid, `challenges[1]: character 8: 'G' is not a hex digit`},
		{"challenge alone", personaliseCard, card.with("challenges", testChallenge), invalid, "malformed JSON"},
		{"device of a card", personaliseCard, card.with("deviceNumber", demoDevice), invalid, "deviceNumber: unknown field"},
		{"a key of the caller's", personaliseCard, card.with("key", strings.Repeat("00", 16)), invalid, "key: unknown field"},

		{"device missing", personalisePSAM, module.with("deviceNumber", nil), invalid, "deviceNumber: 0 bytes, expected 8"},
		{"device too short", personalisePSAM, module.with("deviceNumber", "0017"), invalid, "deviceNumber: 2 bytes, expected 8"},
		{"device too long", personalisePSAM, module.with("deviceNumber", demoDevice+"00"), invalid, "deviceNumber: 9 bytes, expected 8"},
		{"device not hex", personalisePSAM, module.with("deviceNumber", "RD00000000000017"), invalid, "deviceNumber: character 1: 'R' is not a hex digit"},
		{"kind of a card", personalisePSAM, module.with("kinds", list("load")), invalid, "kinds[0]: load: " + elsewhere + " [reader reader-control]"},
		{"reader control not last", personalisePSAM, module.with("kinds", list("reader-control", "reader")), invalid, "kinds[1]: reader: comes after the reader-control key"},
		{"no module in the set", personalisePSAM, module.with("keySet", "demo"), invalid, "keySet: has no key of a kind that goes there"},
		{"issuer id for a module", personalisePSAM, module.with("issuerId", "1000100010001000"), invalid, "issuerId: unknown field"},
		{"issuer from the card", personalisePSAM, module.with("keySet", "by-card"), invalid, "keySet: takes its issuer factor from the card, and a reader has none"},
		{"kind without a row", personaliseCard, card.with("keySet", "rowless"), invalid, "kinds: load: the card profile has no row of WRITE KEY for it"},
	}
}

// rowless is the default profile without the row of the load key, which only a whole ProfileFile can leave out.
func rowless(t *testing.T, p purse.Profile) purse.Profile {
	t.Helper()
	file := p.File()
	rows := map[string]purse.KeyRowFile{}
	for kind, row := range file.WriteKey {
		if kind != "load" {
			rows[kind] = row
		}
	}
	file.WriteKey = rows
	made, err := purse.NewProfile(file)
	require.NoError(t, err)
	return made
}

// Every malformed personalisation is refused with its field, signs nothing and leaves nothing behind.
func TestMalformedPersonalisations(t *testing.T) {
	i := firstIssue(t)
	good := i.keySet(t, issueToken(t), func(keyderive.Kind) keyderive.Boundary { return i.boundary })
	byCard, bare := good, good
	byCard.Name, byCard.Issuer = "by-card", signer.Issuer{FromCard: true}
	bare.Name, bare.Profile = "rowless", rowless(t, i.profile)
	b := newBureau(t, good, byCard, bare)
	for n, row := range malformedPersonalisations(i.set()) {
		r := b.dial(b.tlsAs("personaliser"), n%2 == 0).post(row.method, row.body)
		assert.Equal(t, row.code, r.code(), "%s: %v", row.name, r.body)
		assert.Contains(t, r.message(), row.message, row.name)
		assert.NotContains(t, r.body, "writes", row.name)
		quiet(t, r.message(), row.name)
	}
	assert.Len(t, b.entries(), 1)
	r := b.as("personaliser").post(personaliseCard, fields{
		"keySet": i.set(), "cardSerial": demoCard, "kinds": []string{"load", "control"}, "challenges": []string{"01 02 03 04", "05060708"},
	})
	assert.Equal(t, "OUTCOME_APPROVED", r.body["outcome"], "%v", r.body)
}

// What no active key can do is an outcome that names the key, is recorded, and has no command.
func TestPersonalisationWithoutAnActiveKey(t *testing.T) {
	i := firstIssue(t)
	set := i.keySet(t, issueToken(t), func(keyderive.Kind) keyderive.Boundary { return i.boundary })
	state := func(kind keyderive.Kind, number int, to custody.KeyState) {
		for n := range set.Versions {
			if v := &set.Versions[n]; v.Kind == kind && v.Number == number {
				v.State = to
			}
		}
	}
	state(keyderive.KindLoad, 1, custody.Suspended)
	state(keyderive.KindTAC, 1, custody.Deactivated)
	state(keyderive.KindControl, 1, custody.Deactivated)
	state(keyderive.KindReaderControl, 1, custody.Compromised)
	b := newBureau(t, set)
	personaliser := b.as("personaliser")
	card := fields{"keySet": i.set(), "cardSerial": demoCard, "challenges": []string{testChallenge}}
	module := fields{"keySet": i.set(), "deviceNumber": demoDevice, "kinds": []string{"reader-control"}, "challenges": []string{testChallenge}}
	one := func(kind string) fields { return card.with("kinds", []string{kind}) }
	for name, c := range map[string]struct {
		method string
		body   fields
		detail string
		key    map[string]any
	}{
		"suspended":       {personaliseCard, one("load"), "no load key is active", map[string]any{"kind": "load"}},
		"deactivated":     {personaliseCard, one("tac").with("keyVersion", 1), "the tac key of version 1 is not active", map[string]any{"kind": "tac", "version": 1.0, "kcv": "8DD394"}},
		"unknown version": {personaliseCard, one("purchase").with("keyVersion", 2), "the purchase key of version 2 is not active", map[string]any{"kind": "purchase", "version": 2.0}},
		"all kinds":       {personaliseCard, card.with("challenges", nil), "no load key is active", map[string]any{"kind": "load"}},
		"unknown control": {personaliseCard, one("purchase").with("controlKeyVersion", 3), "the control key of version 3 is not active", map[string]any{"kind": "control", "version": 3.0}},
		"retired control": {
			personaliseCard, one("purchase").with("controlKeyVersion", 1),
			"the control key of version 1 is deactivated: it may write the control key that replaces it, alone", nil,
		},
		"compromised control": {personalisePSAM, module.with("controlKeyVersion", 1), "the reader-control key of version 1 is not active", nil},
	} {
		before := len(b.entries())
		r := personaliser.post(c.method, c.body)
		assert.Equal(t, "OUTCOME_KEY_NOT_ACTIVE", r.body["outcome"], "%s: %v", name, r.body)
		assert.Equal(t, c.detail, r.text("detail"), name)
		assert.NotContains(t, r.body, "writes", name)
		if c.key != nil {
			c.key["set"] = i.set()
			assert.Equal(t, c.key, r.body["key"], name)
		}
		entries := b.entries()[before:]
		require.Len(t, entries, 1, name)
		assert.Equal(t, "KEY_NOT_ACTIVE", entries[0].Outcome, name)
		assert.Equal(t, c.detail, entries[0].Detail, name)
		assert.Empty(t, entries[0].Writes, name)
	}

	// A retired control key still opens the card that has it, for the key that takes its place.
	blank := i.blank(t)
	assert.Equal(t, purse.SWOK, says(t, blank, b.cardWrite(i, "control", i.challenge(t, blank), 1).Writes[0].Command))
	assert.Equal(t, purse.SWOK, says(t, blank, b.cardWrite(i, "purchase", i.challenge(t, blank), 0).Writes[0].Command))
}

// A command leaves when its entry is durable and not before, and a token that is away signs nothing: with the trouble over the
// same request gets its command.
func TestTroubleWhilePersonalising(t *testing.T) {
	i := firstIssue(t)
	set := i.keySet(t, issueToken(t), func(keyderive.Kind) keyderive.Boundary { return i.boundary })
	var x trouble
	w := newWorld(t, func(s *setup) {
		s.keySets = append(s.keySets, set)
		for n := range s.clients {
			s.clients[n].KeySets = append(s.clients[n].KeySets, set.Name)
		}
	}, x.setup)
	personaliser := w.as("personaliser")
	ask := fields{"keySet": i.set(), "cardSerial": demoCard, "kinds": []string{"load"}, "challenges": []string{testChallenge}}
	for name, fail := range map[string]func(){
		"store": func() { x.commit.Store(fails(store.ErrUnavailable)) },
		"token": func() { x.key.Store(fails(hsm.ErrUnavailable)) },
	} {
		fail()
		r := personaliser.post(personaliseCard, ask)
		assert.Equal(t, "unavailable", r.code(), "%s: %v", name, r.body)
		assert.Contains(t, r.message(), "nothing was signed", name)
		assert.NotContains(t, r.body, "writes", name)
		x.commit.Store(nil)
		x.key.Store(nil)
	}
	assert.Len(t, w.entries(), 1)
	r := personaliser.post(personaliseCard, ask)
	require.Equal(t, "OUTCOME_APPROVED", r.body["outcome"], "%v", r.body)
	again := personaliser.post(personaliseCard, ask)
	assert.Equal(t, r.body["writes"], again.body["writes"])
	assert.NotEqual(t, r.body["auditIndex"], again.body["auditIndex"], "each time it is asked it is recorded")
}
