package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
)

func TestServeCheck(t *testing.T) {
	h := newHome(t)
	for _, c := range []struct {
		name  string
		edits []edit
	}{
		{"dev's own", nil},
		{"with labels", []edit{{`kcv: "26C9F7"`, `kcv: "26C9F7", label: demo/load/1`}}},
		{"with a destroyed key", []edit{{`state: active, boundary: TOKEN, kcv: "7D1074"`, `state: destroyed, boundary: TOKEN, kcv: "000000"`}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			status, out := run(t, []string{"serve", "--check", "--config", h.config("check.yaml", c.edits...)})
			assert.Zero(t, status, out)
			assert.Contains(t, out, "the configuration is valid")
		})
	}
}

// --check says what is wrong, where, in words that an operator can act on, with status 1.
func TestServeCheckNamesWhatIsWrong(t *testing.T) {
	h := newHome(t)
	h.write("wrong-pin", "not-the-pin\n")
	h.write("open-pin", h.read("pin"))
	h.write("open.key", h.read("tls/server.key"))
	require.NoError(t, os.Chmod(h.path("open-pin"), 0o640))
	require.NoError(t, os.Chmod(h.path("open.key"), 0o644))
	for _, c := range []struct {
		name     string
		edit     edit
		messages []string
	}{
		{"wrong check value", edit{`kcv: "26C9F7"`, `kcv: "26C9F8"`}, []string{"demo/load/1", "check value mismatch"}},
		{"wrong check value of a sealed key", edit{`kcv: "08802E"`, `kcv: "08802F"`}, []string{"demo-sm4/load/1", "check value mismatch"}},
		{"check value of another form", edit{`kcv: "26C9F7"`, `kcv: "26C9"`}, []string{"keySets[0].keys[1].kcv"}},
		{"missing label", edit{`kcv: "26C9F7"`, `kcv: "26C9F7", label: elsewhere`}, []string{`"elsewhere"`, "key not found"}},
		{"key of no version", edit{`kind: tac, version: 1`, `kind: tac, version: 2`}, []string{"demo/tac/2", "key not found"}},
		{"another boundary", edit{`kind: load, version: 1, state: active, boundary: TOKEN`, `kind: load, version: 1, state: active, boundary: PROCESS`},
			[]string{"demo/load/1"}},
		{"unknown field", edit{`^listen:`, "lissten: 127.0.0.1:0\nlisten:"}, []string{"bad.yaml:2", "lissten"}},
		{"unknown nested field", edit{`label: pursekeeper-dev`, "label: pursekeeper-dev\n  pni: x"}, []string{"pni"}},
		{"repeated field", edit{`^listen:`, "listen: \"127.0.0.1:0\"\nlisten:"}, []string{"listen"}},
		{"port", edit{`^listen: .*`, "listen: 127.0.0.1:70000"}, []string{"bad.yaml:2: listen", "127.0.0.1:70000", "expected HOST:PORT"}},
		{"admin for strangers", edit{`^admin: .*`, "admin: 0.0.0.0:0"}, []string{"admin", "no loopback address"}},
		{"PIN file of all", edit{`file: pin`, `file: open-pin`}, []string{"open-pin", "mode 0640", "chmod 0400"}},
		{"no PIN file", edit{`file: pin`, `file: no-pin`}, []string{"no-pin", "no such secret"}},
		{"PIN in the configuration", edit{`pin: \{file: pin\}`, `pin: "not-the-pin"`}, []string{"bad.yaml:8"}},
		{"key file of all", edit{`tls/server.key`, `open.key`}, []string{"tls.key", "mode 0644", "chmod 0400"}},
		{"key of another certificate", edit{`tls/server.key`, `tls/reader.key`}, []string{"tls: certificate and key"}},
		{"no module", edit{`module: .*`, `module: /nowhere.so`}, []string{"token.module", "/nowhere.so is not there"}},
		{"no such token", edit{`label: pursekeeper-dev`, `label: pursekeeper-def`}, []string{`"pursekeeper-def"`}},
		{"state of no kind", edit{`state: active`, `state: actve`}, []string{"keySets[0].keys[0].state", "actve"}},
		{"keys that nobody decides on in a token of production", production, []string{"keySets: leave it out", "pursekeeper init"}},
		{"wrong PIN", edit{`file: pin`, `file: wrong-pin`}, []string{"CKR_PIN_INCORRECT"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			status, out := run(t, []string{"serve", "--check", "--config", h.config("bad.yaml", c.edit)})
			assert.Equal(t, 1, status)
			for _, message := range c.messages {
				assert.Contains(t, out, message)
			}
			assert.NotContains(t, out, "not-the-pin")
			assert.NotContains(t, out, "goroutine ")
		})
	}
	t.Run("no file", func(t *testing.T) {
		status, out := run(t, []string{"serve", "--check", "--config", h.path("none.yaml")})
		assert.Equal(t, 1, status)
		assert.Contains(t, out, "none.yaml")
	})
}

// A check with a wrong PIN costs one try, and so does each start of the service: neither tries again by itself.
func TestServeCheckTriesAPINOnce(t *testing.T) {
	h := newHome(t)
	h.write("wrong-pin", "not-the-pin\n")
	token, control := hsmtest.NewFaultToken(t)
	config := h.config("bad.yaml", edit{`file: pin`, `file: wrong-pin`}, behindFaults(token))
	status, out := run(t, []string{"serve", "--check", "--config", config}, withEnv(token.Env()...))
	assert.Equal(t, 1, status, out)
	assert.EqualValues(t, 1, control.Stats().Logins)
	assert.EqualValues(t, 1, control.Stats().PINRefused)
	rulesKept(t, control)
}

// A token of production serves the keys of the catalogue, which are nobody else's; the test calls its own key so. A published one in
// the catalogue fails closed.
func TestServeInProduction(t *testing.T) {
	h := newHome(t)
	h.write("keys.json", testKeysText)
	p := start(t, append([]string{"dev", "--dir", h.dir, "--test-keys", h.path("keys.json")}, anywhere...))
	p.says("Stop with")
	require.Zero(t, p.terminate())
	g := governedHome(h)
	g.catalogue.KeySets = slices.DeleteFunc(g.catalogue.KeySets, func(s custody.KeySet) bool { return s.Name != "mine" })
	g.decide()
	config := h.config("production.yaml", edit{`(?s).*`, strings.ReplaceAll(strings.Replace(h.read("governed.yaml"),
		"development: true", "development: false", 1), "$", "$$")})
	status, out := run(t, []string{"serve", "--check", "--config", config})
	require.Zero(t, status, out)
	assert.Contains(t, out, "has all 2 keys, with the check values that are written in the catalogue, revision 1")
	s := serveChild(h, config)
	answer, err := s.client("platform").AuthorizeLoad(t.Context(), &v1.AuthorizeLoadRequest{
		KeySet: "mine", CardSerial: storySerial, Purse: v1.Purse_PURSE_EP, AmountFen: storyAmount, TerminalId: storyTerminal,
		InitializeResponse: "000003E80007" + "0100" + "A1B2C3D4" + mineMAC1, Date: storyDate, Time: storyTime,
	})
	require.NoError(t, err)
	assert.Equal(t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome)
	assert.Equal(t, mineMAC2, answer.Mac2)
	published := governedHome(h).catalogue.KeySet("demo")
	g.catalogue.KeySets = append([]custody.KeySet{*published}, g.catalogue.KeySets...)
	g.decide()
	eventually(t, "the published keys fail closed", func() bool { return !s.ready() })
	_, body := s.ask("/readyz")
	assert.Contains(t, body, `key "demo/load/1": key set demo: the load key of version 1 has the check value of a published test key`)
	_, err = s.client("platform").AuthorizeLoad(t.Context(), demonstrationLoad())
	assert.Equal(t, connect.CodeInternal, connect.CodeOf(err), "%v", err)
	assert.Zero(t, s.terminate())
}
