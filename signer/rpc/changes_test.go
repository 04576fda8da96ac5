package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/policy"
)

const (
	proposeChange = pursekeeperv1connect.KeyServiceProposeChangeProcedure
	approveChange = pursekeeperv1connect.KeyServiceApproveChangeProcedure
	rejectChange  = pursekeeperv1connect.KeyServiceRejectChangeProcedure
	cancelChange  = pursekeeperv1connect.KeyServiceCancelChangeProcedure
	listChanges   = pursekeeperv1connect.KeyServiceListChangesProcedure
	readChange    = pursekeeperv1connect.KeyServiceReadChangeProcedure
	listOfficers  = pursekeeperv1connect.KeyServiceListOfficersProcedure

	demoChangeID = "c4a9e00c4a9e00c4a9e00c4a9e00c4a9"
)

var threeOfficers = []string{"alice", "bob", "carol"}

// withOfficers adds three clients with the role of officers.
func withOfficers(s *setup) {
	for _, name := range threeOfficers {
		s.clients = append(s.clients, policy.Client{Name: name, Identity: devpki.Identity(name), Role: policy.Officer, KeySets: []string{"demo"}})
	}
}

// officerKeys registers the three, with keys that ssh-keygen makes, and answers the keys' paths.
func officerKeys(t *testing.T, w *world) map[string]string {
	paths := map[string]string{}
	first := custody.Catalogue{Quorum: policy.Quorum{Default: 1}, Rules: policy.Rules{Policies: policy.Shipped()}}
	for _, name := range threeOfficers {
		paths[name] = filepath.Join(t.TempDir(), name)
		require.NoError(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", paths[name]).Run())
		public, err := os.ReadFile(paths[name] + ".pub")
		require.NoError(t, err)
		key, err := custody.ReadPublicKey(public)
		require.NoError(t, err)
		first.Officers = append(first.Officers, custody.Officer{Name: name, Key: key})
		first.Rules.Clients = append(first.Rules.Clients, policy.Client{Name: name, Identity: devpki.Identity(name), Role: policy.Officer, KeySets: []string{"demo"}})
	}
	_, err := w.office.Found(t.Context(), first)
	require.NoError(t, err)
	return paths
}

// signed is what ssh-keygen alone makes of a change's bytes.
func signed(t *testing.T, path, text string) string {
	c := exec.Command("ssh-keygen", "-Y", "sign", "-n", custody.Namespace, "-f", path)
	c.Stdin = strings.NewReader(text)
	var out bytes.Buffer
	c.Stdout = &out
	require.NoError(t, c.Run())
	return out.String()
}

const addSet = `{"act":"keyset.create","reason":"a new issuer","keySet":{"name":"gd-purse","algorithm":"3DES","profile":"pboc-ep",` +
	`"timeZone":"Asia/Shanghai","mac1FailureLimit":10}}`

// part is a text of an answer's object.
func part(t *testing.T, r reply, object, member string) any {
	t.Helper()
	require.Equal(t, 200, r.status, "%v", r.body)
	found, ok := r.body[object].(map[string]any)
	require.True(t, ok, "%v", r.body)
	return found[member]
}

// A change over the wire: the bytes that were answered are signed elsewhere, by ssh-keygen.
func TestChangesOnTheWire(t *testing.T) {
	w := newWorld(t, withOfficers)
	keys := officerKeys(t, w)
	proposed := w.as("alice").post(proposeChange, fields{"draft": addSet, "life": "1h"})
	id, text := part(t, proposed, "change", "id").(string), part(t, proposed, "change", "bytes").(string)
	assert.Equal(t, "OPEN", part(t, proposed, "change", "state"))
	assert.EqualValues(t, 1, part(t, proposed, "change", "approvalsNeeded"))
	change, err := custody.DecodeChange([]byte(text))
	require.NoError(t, err)
	assert.Equal(t, "alice", change.Author, "as the certificate says, not the request")
	assert.Equal(t, change.Words(), part(t, proposed, "change", "words"))

	for _, c := range []struct{ who, by, refused string }{
		{"alice", "alice", "OWN_CHANGE"}, {"bob", "carol", "SIGNATURE"}, {"officer", "bob", "NOT_AN_OFFICER"},
	} {
		r := w.as(c.who).post(approveChange, fields{"id": id, "signature": signed(t, keys[c.by], text)})
		require.Equal(t, 200, r.status)
		assert.Equal(t, c.refused, r.body["refused"], "%s with %s's signature", c.who, c.by)
		last := w.entries()[len(w.entries())-1]
		assert.Equal(t, c.refused, last.Outcome)
		assert.Equal(t, c.who, last.Client)
	}
	approved := w.as("bob").post(approveChange, fields{"id": id, "signature": signed(t, keys["bob"], text)})
	assert.Equal(t, "APPLIED", part(t, approved, "change", "state"))
	assert.Empty(t, approved.body["refused"])
	again := w.as("carol").post(approveChange, fields{"id": id, "signature": signed(t, keys["carol"], text)})
	assert.Equal(t, "NOT_OPEN", again.body["refused"])

	for _, c := range []struct{ who, path, refused string }{{"bob", rejectChange, ""}, {"bob", cancelChange, "NOT_AUTHOR"}} {
		other := part(t, w.as("alice").post(proposeChange, fields{"draft": strings.ReplaceAll(addSet, "gd-purse", "gd2")}), "change", "id")
		body := fields{"id": other}
		if c.path == rejectChange {
			body["reason"] = "not now"
		}
		r := w.as(c.who).post(c.path, body)
		require.Equal(t, 200, r.status, "%v", r.body)
		assert.Equal(t, c.refused, fmt.Sprint(cmpNil(r.body["refused"])))
	}
	read := w.as("auditor").post(readChange, fields{"id": id})
	assert.Equal(t, text, part(t, read, "change", "bytes"))
	assert.Len(t, part(t, read, "change", "approvals"), 1)
	assert.Equal(t, "UNKNOWN", w.as("auditor").post(readChange, fields{"id": demoChangeID}).body["refused"])
	officers := w.as("auditor").post(listOfficers, fields{})
	assert.Len(t, officers.body["officers"], 3)
	assert.EqualValues(t, 1, officers.body["quorum"])

	looks := map[audit.Event]string{}
	for _, e := range w.entries() {
		if e.Client == "auditor" {
			looks[e.Event] += e.Outcome + " " + e.Detail + ";"
		}
	}
	assert.Equal(t, map[audit.Event]string{
		"ReadChange": "SHOWN change " + fmt.Sprint(id) + ";NOT_FOUND ;", "ListOfficers": looks["ListOfficers"],
	}, looks, "every look is recorded")
	assert.Contains(t, looks["ListOfficers"], "SHOWN revision ")
}

func cmpNil(v any) any {
	if v == nil {
		return ""
	}
	return v
}

func TestPagesOfChanges(t *testing.T) {
	w := newWorld(t, withOfficers)
	officerKeys(t, w)
	var want []any
	for n := range 5 {
		draft := strings.ReplaceAll(addSet, "gd-purse", fmt.Sprint("set-", n))
		want = append(want, part(t, w.as("alice").post(proposeChange, fields{"draft": draft}), "change", "id"))
	}
	w.as("alice").post(cancelChange, fields{"id": want[2]})
	list := func(open bool) (ids []any) {
		token := ""
		for page := 0; page < 10; page++ {
			r := w.as("auditor").post(listChanges, fields{"openOnly": open, "pageSize": 2, "pageToken": token})
			require.Equal(t, 200, r.status)
			for _, one := range r.body["changes"].([]any) {
				ids = append(ids, one.(map[string]any)["id"])
			}
			if token, _ = r.body["nextPageToken"].(string); token == "" {
				break
			}
		}
		return ids
	}
	assert.Equal(t, want, list(false))
	assert.Equal(t, append(append([]any{}, want[:2]...), want[3:]...), list(true))
	for _, body := range []fields{{"pageSize": 1001}, {"pageToken": "x"}} {
		assert.Equal(t, "invalid_argument", w.as("auditor").post(listChanges, body).code())
	}
}

// A draft that is not exactly one is malformed input, and recorded as a refusal.
func TestMalformedDrafts(t *testing.T) {
	w := newWorld(t, withOfficers)
	officerKeys(t, w)
	var draft map[string]any
	require.NoError(t, json.Unmarshal([]byte(addSet), &draft))
	for name, body := range map[string]fields{
		"no JSON":            {"draft": "keyset.create"},
		"two":                {"draft": addSet + addSet},
		"an unknown member":  {"draft": addSet[:len(addSet)-1] + `,"more":1}`},
		"an author":          {"draft": addSet[:len(addSet)-1] + `,"author":"bob"}`},
		"an id":              {"draft": addSet[:len(addSet)-1] + `,"id":"` + demoChangeID + `"}`},
		"a base":             {"draft": addSet[:len(addSet)-1] + `,"base":"00"}`},
		"very long":          {"draft": addSet[:len(addSet)-1] + strings.Repeat(" ", 60<<10) + "}"},
		"a life of no time":  {"draft": addSet, "life": "-1h"},
		"a life of no words": {"draft": addSet, "life": "long"},
	} {
		before := len(w.entries())
		r := w.as("alice").post(proposeChange, body)
		assert.Equal(t, "invalid_argument", r.code(), "%s: %v", name, r.body)
		require.Len(t, w.entries(), before+1, name)
		assert.Equal(t, "MALFORMED", w.entries()[before].Outcome, name)
	}
	assert.Equal(t, "MALFORMED", w.as("alice").post(proposeChange, fields{"draft": addSet, "life": "721h"}).body["refused"])
}

// The rules in force are shown to officers and auditors, and a policy as large as a change may be comes through: proposed as JSON, read, signed,
// applied; and a list of many such changes has pages.
func TestLargePoliciesOnTheWire(t *testing.T) {
	w := newWorld(t, withOfficers)
	keys := officerKeys(t, w)
	text := "@id(\"large\")\npermit (principal in Role::\"auditor\", action == Action::\"GetTransaction\", resource);\n" +
		strings.Repeat("// \"&&\" <= 12345678901234567890123456789012345678901\n", 590)
	draft, err := json.Marshal(fields{"act": "policy.set", "reason": "a test", "policy": fields{"put": []fields{{"name": "large", "text": text}}}})
	require.NoError(t, err)
	require.Greater(t, len(text), 31_000)
	proposed := w.as("alice").post(proposeChange, fields{"draft": string(draft)})
	id, body := part(t, proposed, "change", "id").(string), part(t, proposed, "change", "bytes").(string)
	for range 15 {
		require.Equal(t, 200, w.as("alice").post(proposeChange, fields{"draft": string(draft)}).status)
	}
	seen, pages := 0, 0
	for token := ""; pages == 0 || token != ""; pages++ {
		page := w.as("auditor").post(listChanges, fields{"pageToken": token})
		require.Equal(t, 200, page.status)
		seen += len(page.body["changes"].([]any))
		token, _ = page.body["nextPageToken"].(string)
	}
	assert.Equal(t, 16, seen)
	assert.Greater(t, pages, 1)
	assert.Equal(t, "APPLIED", part(t, w.as("bob").post(approveChange, fields{"id": id, "signature": signed(t, keys["bob"], body)}), "change", "state"))
	for _, name := range []string{"carol", "auditor"} {
		shown := w.as(name).post(listOfficers, fields{})
		policies := part(t, shown, "rules", "policies").([]any)
		require.Len(t, policies, len(policy.Shipped())+1)
		assert.Equal(t, text, policies[1].(map[string]any)["text"])
		assert.Len(t, part(t, shown, "rules", "clients"), 3)
		assert.Regexp(t, "^[0-9a-f]{64}$", part(t, shown, "rules", "digest"))
	}
	long := strings.Replace(string(draft), "// ", strings.Repeat("/", 1<<14), 1)
	refused := w.as("alice").post(proposeChange, fields{"draft": long})
	assert.Equal(t, "MALFORMED", refused.body["refused"], "%v", refused.body)
	assert.Contains(t, refused.body["detail"], "bytes in an entry of the record, expected at most 49152")
}
