package main

import (
	"crypto/rand"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/softhsm"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
)

// institution is a token of production, a store, the configurations of two nodes over both, and three officers whose SSH keys ssh-keygen
// made. Everything is done as they would: by the program, and by ssh-keygen.
type institution struct {
	*testing.T
	dir     string
	server  string // of the node that officers call
	changes int    // applied so far
}

var officers = []string{"alice", "bob", "carol"}

func newInstitution(t *testing.T) *institution {
	t.Helper()
	i := &institution{T: t, dir: t.TempDir()}
	made, err := softhsm.Init(i.path("token"), "institution", "institution-pin", "institution-so-pin")
	require.NoError(t, err)
	i.write("pin", "institution-pin")
	roles := append([]string{"platform", "personaliser", "auditor"}, officers...)
	require.NoError(t, devpki.WriteFolder(i.path("tls"), time.Now(), append(roles, "desk")...))
	var clients strings.Builder
	for _, name := range roles {
		role := name
		if name == "alice" || name == "bob" || name == "carol" {
			role = "officer"
			i.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", i.path(name))
		}
		fmt.Fprintf(&clients, "  - {name: %s, identity: %q, role: %s, keySets: [gd]}\n", name, devpki.Identity(name), role)
	}
	for _, node := range []string{"node1", "node2"} {
		i.write(node+".yaml", fmt.Sprintf(`listen: 127.0.0.1:0
admin: 127.0.0.1:0
tls: {certificate: tls/server.crt, key: tls/server.key, clientCA: tls/ca.crt}
token: {module: %q, label: institution, pin: {file: pin}, softhsmConf: %q}
store: {sqlite: state.db}
audit: {directory: %s-audit, origin: pursekeeper/institution}
`, made.Module, made.ConfPath, node))
	}
	i.write("clients.yaml", "clients:\n"+clients.String())
	return i
}

func (i *institution) path(name string) string { return filepath.Join(i.dir, name) }

func (i *institution) write(name, text string) {
	i.Helper()
	require.NoError(i, os.WriteFile(i.path(name), []byte(text), 0o600))
}

// tool runs another program than ours.
func (i *institution) tool(name string, arguments ...string) {
	i.Helper()
	out, err := exec.Command(name, arguments...).CombinedOutput()
	require.NoError(i, err, "%s %v: %s", name, arguments, out)
}

// node starts a node.
func (i *institution) node(name string) *served {
	i.Helper()
	return serveChild(home{i.T, i.dir}, i.path(name+".yaml"))
}

// does runs the program, which must succeed.
func (i *institution) does(arguments ...string) string {
	i.Helper()
	status, out := run(i.T, arguments, inFolder(i.dir))
	require.Zero(i, status, "%v: %s", arguments, out)
	return out
}

// as runs a command that calls the service, with an officer's certificate.
func (i *institution) as(name string, arguments ...string) string {
	i.Helper()
	return i.does(append(arguments, "--server", i.server, "--tls", i.path("tls"), "--as", name)...)
}

var proposalID = regexp.MustCompile(`(?m)^([0-9a-f]{32})  OPEN`)

// decide has alice propose, and bob and carol approve: he with the program and his key file, she by ssh-keygen, on a machine without the
// program. It answers the change's id.
func (i *institution) decide(arguments ...string) (id string) {
	i.Helper()
	out := i.as("alice", append(arguments, "--reason", "as agreed")...)
	found := proposalID.FindStringSubmatch(out)
	require.NotNil(i, found, out)
	id = found[1]
	i.as("bob", "change", "approve", id, "--key", i.path("bob"), "--yes")
	i.write("change", i.as("carol", "change", "show", id, "--bytes"))
	require.NoError(i, os.RemoveAll(i.path("change.sig")))
	i.tool("ssh-keygen", "-Y", "sign", "-q", "-f", i.path("carol"), "-n", "pursekeeper-change@v1", i.path("change"))
	out = i.as("carol", "change", "approve", id, "--signature", i.path("change.sig"), "--yes")
	require.Regexp(i, "(?m)^"+id+"  (APPLIED|APPROVED)", out)
	i.changes++
	return id
}

// component is one of three, at random, each byte with odd parity: so has the key that they make.
func component(t *testing.T) (c [16]byte) {
	t.Helper()
	_, err := rand.Read(c[:])
	require.NoError(t, err)
	for n := range c {
		if bits.OnesCount8(c[n])%2 == 0 {
			c[n] ^= 1
		}
	}
	return c
}

// ceremony imports the control key, from three components that three custodians type, and answers it: cards are made with it.
func (i *institution) ceremony() (control [16]byte) {
	i.Helper()
	script := ""
	for n, custodian := range officers {
		c := component(i.T)
		for b := range control {
			control[b] ^= c[b]
		}
		script += fmt.Sprintf("see Component %d of 3\nsee not shown:\ntype %X\nsee Is it the one on your paper?\ntype yes\n", n+1, c)
		require.NotEmpty(i, custodian)
	}
	block, err := suite.TDES.New(control[:])
	require.NoError(i, err)
	value := kcv.Of(block).String()
	i.write("import-change.yaml", fmt.Sprintf(`act: key.import
reason: as agreed
keys:
  set: gd
  keys: [{kind: control, version: 1, boundary: TOKEN, kcv: %q, components: 3, custodians: [alice, bob, carol]}]
  withoutBackup: true
`, value))
	out := i.as("alice", "change", "propose", "--file", i.path("import-change.yaml"))
	id := proposalID.FindStringSubmatch(out)[1]
	for _, name := range []string{"bob", "carol"} {
		i.as(name, "change", "approve", id, "--key", i.path(name), "--yes")
	}
	i.changes++
	i.write("import.yaml", fmt.Sprintf(`ceremony: import-key
change: %q
keySet: gd
kind: control
version: 1
boundary: TOKEN
algorithm: 3DES
kcv: %q
custodians: [{name: alice}, {name: bob}, {name: carol}]
present: [dave]
record: record.txt
`, id, value))
	command := exec.Command(executable, "ceremony", "run", i.path("import.yaml"), "--config", i.path("node1.yaml"))
	command.Dir = i.dir
	room, err := enterRoom(command)
	require.NoError(i, err)
	played := room.play(script + "see " + value + ", as approved.\nsee to go on\ntype gd/control/1\nsee CEREMONY RECORD\nsee written to\n")
	left := room.leave()
	require.NoError(i, played, "%s", room.text())
	require.NoError(i, left, "%s", room.text())
	return control
}
