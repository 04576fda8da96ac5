package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
)

// governors is a signer of the catalogue with three officers, whose SSH keys ssh-keygen made.
type governors struct {
	*governed
	signer *served // once it serves
	t      *testing.T
}

func newGovernors(t *testing.T) *governors {
	t.Helper()
	g := newGoverned(t)
	names := []string{"platform", "auditor", "alice", "bob", "carol"}
	require.NoError(t, devpki.WriteFolder(g.path("desk"), time.Now(), names...))
	g.write("governed.yaml", strings.ReplaceAll(g.read("governed.yaml"), " tls/", " desk/"))
	clients := "clients:\n"
	for _, name := range names[:2] {
		clients += fmt.Sprintf("  - {name: %s, identity: %q, role: %s, keySets: [demo]}\n", name, devpki.Identity(name), name)
	}
	g.write("clients.yaml", clients)
	for _, name := range names[2:] {
		require.NoError(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", g.path(name)).Run())
	}
	return &governors{governed: g, t: t}
}

// init are the arguments of init, with the three officers and the clients of clients.yaml.
func (g *governors) init() []string {
	arguments := []string{"init", "--config", g.config, "--quorum", "1"}
	for _, name := range []string{"alice", "bob", "carol"} {
		arguments = append(arguments, "--officer", name+"="+g.path(name+".pub"), "--identity", name+"="+devpki.Identity(name))
	}
	return append(arguments, "--key-sets", "demo", "--clients", g.path("clients.yaml"))
}

// as runs a command of the program as an officer, and wants that status.
func (g *governors) as(name string, status int, arguments ...string) string {
	g.t.Helper()
	got, out := run(g.t, append(arguments, "--server", "https://"+g.signer.public, "--tls", g.path("desk"), "--as", name), inFolder(g.dir))
	require.Equal(g.t, status, got, "%v\n%s", arguments, out)
	return out
}

var changeIDInOutput = regexp.MustCompile(`(?m)^([0-9a-f]{32})  OPEN`)

// propose is alice's proposal.
func (g *governors) propose(arguments ...string) (id string) {
	g.t.Helper()
	out := g.as("alice", 0, append([]string{"change", "propose", "--reason", "a test"}, arguments...)...)
	found := changeIDInOutput.FindStringSubmatch(out)
	require.NotNil(g.t, found, out)
	return found[1]
}

// The officers' procedures from the first to the last, by the real program, ssh-keygen and ssh-agent: init, a key set, keys made in the token,
// activated, an officer more; and every approval verified from the sealed record by ssh-keygen alone.
func TestOfficersDecide(t *testing.T) {
	g := newGovernors(t)
	officers := g.init()
	one := append(officers[:5:5], "--officer", "alice="+g.path("alice.pub"))
	status, out := run(t, one)
	require.Equal(t, 1, status)
	assert.Contains(t, out, "officer alice: there is no client of that name with the role officer: give --identity alice=URI")
	status, out = run(t, append(one, "--identity", "alice="+devpki.Identity("alice")))
	require.Equal(t, 1, status, "one officer is none: %s", out)
	status, out = run(t, officers)
	require.Zero(t, status, out)
	assert.Contains(t, out, "revision 1")
	status, out = run(t, officers)
	require.Equal(t, 1, status)
	assert.Contains(t, out, "officers already")

	g.signer = serveChild(g.home, g.config)
	id := g.propose("keyset.create", "--set", "demo", "--algorithm", "3DES", "--profile", "pboc-ep", "--issuer", "none")
	out = g.as("bob", 1, "change", "approve", id, "--key", g.path("bob"))
	assert.Contains(t, out, "there is no terminal to ask")
	out = g.as("alice", 1, "change", "approve", id, "--key", g.path("alice"), "--yes")
	assert.Contains(t, out, "refused, OWN_CHANGE")
	out = g.as("bob", 0, "change", "approve", id, "--key", g.path("bob"), "--yes")
	assert.Contains(t, out, "Create a key set, without keys (keyset.create).")
	assert.Contains(t, out, "APPLIED")

	// With the agent.
	socket := g.agent("carol")
	id = g.propose("key.create", "--set", "demo", "--kinds", "load,tac", "--version", "2", "--boundary-of", "tac=CARD", "--without-backup")
	status, out = run(t, []string{"change", "approve", id, "--yes", "--server", "https://" + g.signer.public, "--tls", g.path("desk"), "--as", "bob"},
		withEnv("SSH_AUTH_SOCK="+socket))
	require.Equal(t, 1, status)
	assert.Contains(t, out, "has not the key of officer bob")
	status, out = run(t, []string{"change", "approve", id, "--yes", "--server", "https://" + g.signer.public, "--tls", g.path("desk"), "--as", "carol"},
		withEnv("SSH_AUTH_SOCK="+socket))
	require.Zero(t, status, out)
	assert.Contains(t, out, "APPLIED")
	eventually(t, "the keys are there", func() bool { return strings.Contains(g.as("alice", 0, "key", "list"), "demo/tac/2") })

	// With ssh-keygen, on a machine that has nothing of ours.
	id = g.propose("key.activate", "--set", "demo", "--kinds", "tac,load", "--version", "2")
	c := exec.Command(executable, "change", "show", id, "--bytes", "--server", "https://"+g.signer.public, "--tls", g.path("desk"), "--as", "auditor")
	body, err := c.Output()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(g.path("change.json"), body, 0o600))
	require.NoError(t, exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", custody.Namespace, "-f", g.path("bob"), g.path("change.json")).Run())
	out = g.as("bob", 0, "change", "approve", id, "--yes", "--signature", g.path("change.json.sig"))
	assert.Contains(t, out, "APPLIED")

	// From a file, rejected and cancelled.
	g.write("dave.yaml", "act: officer.add\nreason: dave joins\nofficer:\n  name: dave\n  key: \""+keyText(t, g, "bob")+"\"\n")
	out = g.as("alice", 1, "change", "propose", "--file", g.path("dave.yaml"))
	assert.Contains(t, out, "refused, INVALID")
	id = g.propose("key.suspend", "--set", "demo", "--kinds", "load", "--version", "2")
	assert.Contains(t, g.as("bob", 0, "change", "list"), id)
	assert.Contains(t, g.as("bob", 0, "change", "reject", id, "--reason", "why?"), "REJECTED")
	id = g.propose("quorum.set", "--quorum", "2")
	assert.Contains(t, g.as("bob", 1, "change", "cancel", id), "NOT_AUTHOR")
	assert.Contains(t, g.as("alice", 0, "change", "cancel", id), "CANCELLED")
	assert.NotContains(t, g.as("bob", 0, "change", "list"), id)
	assert.Contains(t, g.as("bob", 0, "change", "list", "--all"), id)

	// At a terminal: a typed yes, and the passphrase of the key, which is not shown.
	id = g.propose("key.suspend", "--set", "demo", "--kinds", "load", "--version", "2")
	require.NoError(t, exec.Command("ssh-keygen", "-q", "-p", "-P", "", "-N", "test passphrase", "-f", g.path("carol")).Run())
	screen := g.atTerminal(false, "see Type yes:\ntype no\nsee not approved\n", "change", "approve", id, "--as", "carol", "--key", g.path("carol"))
	assert.Contains(t, screen, "Stop keys from signing and verifying until they are resumed")
	g.atTerminal(false, "see Type yes:\ntype yes\nsee Passphrase\ntype wrong\nsee incorrect\n", "change", "approve", id, "--as", "carol", "--key", g.path("carol"))
	screen = g.atTerminal(true, "see Type yes:\ntype yes\nsee Passphrase\ntype test passphrase\nsee APPLIED\n", "change", "approve", id, "--as", "carol", "--key", g.path("carol"))
	assert.NotContains(t, screen, "test passphrase")

	g.approvalsHold(4)
	require.Zero(t, g.signer.terminate())
}

// atTerminal runs a command at a pseudo-terminal, by a script of room, and answers what was on the screen.
func (g *governors) atTerminal(good bool, script string, arguments ...string) string {
	g.t.Helper()
	r, err := enterRoom(exec.Command(executable, append(arguments, "--server", "https://"+g.signer.public, "--tls", g.path("desk"))...))
	require.NoError(g.t, err)
	played := r.play(script)
	left := r.leave()
	require.NoError(g.t, played, r.text())
	require.Equal(g.t, good, left == nil, "%v\n%s", left, r.text())
	return r.text()
}

func keyText(t *testing.T, g *governors, name string) string {
	text, err := custody.ReadPublicKey([]byte(g.read(name + ".pub")))
	require.NoError(t, err)
	return text
}

// agent runs an ssh-agent with the officer's key, for the test.
func (g *governors) agent(name string) (socket string) {
	g.t.Helper()
	dir, err := os.MkdirTemp("", "agent-") // a socket's path is short
	require.NoError(g.t, err)
	g.t.Cleanup(func() { assert.NoError(g.t, os.RemoveAll(dir)) })
	socket = filepath.Join(dir, "s")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	require.NoError(g.t, agent.Start())
	g.t.Cleanup(func() {
		_ = agent.Process.Kill()
		_ = agent.Wait()
	})
	eventually(g.t, "the agent listens", func() bool { _, err := os.Stat(socket); return err == nil })
	add := exec.Command("ssh-add", "-q", g.path(name))
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	out, err := add.CombinedOutput()
	require.NoError(g.t, err, string(out))
	return socket
}

// approvalsHold verifies so many approvals of the sealed record by ssh-keygen alone, and finds one that was altered.
func (g *governors) approvalsHold(want int) {
	t := g.t
	t.Helper()
	folder := g.path("approvals")
	var out string
	eventually(t, "the approvals are sealed", func() bool {
		require.NoError(t, os.RemoveAll(folder))
		var status int
		status, out = run(t, []string{"audit", "approvals", "--dir", g.path("governed-audit"), "--out", folder})
		return status == 0 && len(regexp.MustCompile(`ssh-keygen -Y verify`).FindAllString(out, -1)) == want
	})
	commands := regexp.MustCompile(`(?m)^    (ssh-keygen .*)$`).FindAllStringSubmatch(out, -1)
	require.Len(t, commands, want)
	for _, c := range commands {
		verify := exec.Command("sh", "-c", c[1])
		verified, err := verify.CombinedOutput()
		require.NoError(t, err, "%s\n%s", c[1], verified)
	}
	bodies, err := filepath.Glob(filepath.Join(folder, "*.bytes"))
	require.NoError(t, err)
	content, err := os.ReadFile(bodies[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(bodies[0], bytes.Replace(content, []byte("demo"), []byte("demi"), 1), 0o600))
	require.Error(t, exec.Command("sh", "-c", commands[0][1]).Run(), "one byte more is another change")
}
