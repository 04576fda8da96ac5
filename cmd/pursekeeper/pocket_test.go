package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pocket is a person with a card file and a signer to go to.
type pocket struct {
	t      *testing.T
	dir    string // where he works: .pursekeeper is in it
	server string
	file   string
}

// The PINs of a pocket's card, by the files that hold them. No output of any command may have one in it.
var pocketPINs = map[string]string{"pin": "495162", "new-pin": "8675309", "wrong-pin": "271828"}

// newPocket is a person in a folder in which "pursekeeper dev" runs.
func newPocket(t *testing.T) *pocket {
	t.Helper()
	dir := t.TempDir()
	p := &pocket{t: t, dir: dir, server: dev(t, dir).says(`signer +(https://\S+)`)[1], file: filepath.Join(dir, ".pursekeeper", "card.json")}
	p.pins()
	return p
}

func (p *pocket) pins() {
	for name, pin := range pocketPINs {
		p.write(name, pin+"\n")
	}
}

func (p *pocket) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pocket) write(name, content string) {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(p.path(name), []byte(content), 0o600))
}

// offline are the commands that need no signer, and take no flag of one.
var offline = []string{"new", "show", "balance", "log", "verify"}

// arguments is a whole command line.
func (p *pocket) arguments(command ...string) []string {
	all := append([]string{"card"}, command...)
	if len(command) > 0 && !slices.Contains(offline, command[0]) {
		all = append(all, "--server", p.server)
	}
	return all
}

// briefly spares hundreds of short commands the second that the race detector waits at the end of each.
func briefly(c *exec.Cmd) { c.Env = append(c.Env, "GORACE=atexit_sleep_ms=20 "+os.Getenv("GORACE")) }

// card runs one command, in the folder.
func (p *pocket) card(command ...string) (status int, out string) {
	p.t.Helper()
	status, out = run(p.t, p.arguments(command...), inFolder(p.dir), briefly)
	p.clean(out)
	return status, out
}

// clean is what every output must be.
func (p *pocket) clean(out string) {
	p.t.Helper()
	for _, pin := range pocketPINs {
		assert.NotContains(p.t, out, pin)
	}
	for _, key := range p.keys() {
		assert.NotContains(p.t, out, key)
	}
}

// keys are the values of the card's keys, as far as there is a card that can be read.
func (p *pocket) keys() (all []string) {
	content, err := os.ReadFile(p.file)
	if err != nil {
		return nil
	}
	var file struct {
		Card struct {
			TestKeys []struct{ Value string }
		}
	}
	_ = json.Unmarshal(content, &file) // tests damage it
	for _, key := range file.Card.TestKeys {
		all = append(all, key.Value)
	}
	return all
}

// does runs a command that must succeed and say what the patterns ask for.
func (p *pocket) does(command string, patterns ...string) string {
	p.t.Helper()
	status, out := p.card(words(command)...)
	require.Zero(p.t, status, "card %s\n%s", command, out)
	for _, pattern := range patterns {
		assert.Regexp(p.t, regexp.MustCompile(pattern), out, "card %s", command)
	}
	return out
}

// fails runs a command that must fail, with status 1, and say why.
func (p *pocket) fails(command string, patterns ...string) string {
	p.t.Helper()
	status, out := p.card(words(command)...)
	require.Equal(p.t, 1, status, "card %s\n%s", command, out)
	for _, pattern := range append(patterns, `(?m)^pursekeeper: `) {
		assert.Regexp(p.t, regexp.MustCompile(pattern), out, "card %s", command)
	}
	return out
}

func words(command string) []string { return regexp.MustCompile(` +`).Split(command, -1) }

// shows checks what is on the card, in the file: the balances and the online counters of EP and of ED.
func (p *pocket) shows(ep, epCounter, ed, edCounter int) {
	p.t.Helper()
	p.does("show",
		fmt.Sprintf(`purse EP +%d fen, overdraft limit 0 fen, counters %04X online`, ep, epCounter),
		fmt.Sprintf(`passbook ED +%d fen, overdraft limit \d+ fen, counters %04X online`, ed, edCounter))
}
