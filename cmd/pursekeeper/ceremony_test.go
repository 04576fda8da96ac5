package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm/softhsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/policy"
)

// The scripts of testdata/ceremony are ceremonies, backups and restores with the program itself at a real pseudo-terminal, a SoftHSM token and
// a SQLite store.
func TestCeremonies(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "ceremony"), Setup: func(e *testscript.Env) error { return furnish(e.WorkDir) }, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"room": cmdRoom, "token": cmdToken, "change": cmdChange, "pursekeeper": cmdProgram, "hides": cmdHides, "objects": cmdObjects,
			"replace": cmdReplace, "block": cmdBlock, "unblock": cmdUnblock, "share": cmdShare,
		},
	})
}

// officersOfTest are three, whose keys are made of their names: published test keys.
var officersOfTest = []string{"alice", "bob", "carol"}

func officerKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("pursekeeper test officer " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// furnish makes the first token and store, with three officers and a key set.
func furnish(dir string) error {
	if err := furnishRoom(dir); err != nil {
		return err
	}
	return found(dir)
}

func furnishRoom(dir string) error {
	if err := devpki.WriteFolder(filepath.Join(dir, "tls"), time.Now(), "platform"); err != nil {
		return err
	}
	for _, name := range officersOfTest {
		block, err := ssh.MarshalPrivateKey(officerKey(name), "")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return makeToken(dir, "first")
}

// found registers the officers in the first store, and makes its key set.
func found(dir string) error {
	return inOffice(dir, func(o *custody.Office) error {
		c := custody.Catalogue{Quorum: policy.Quorum{Default: 1}, Rules: policy.Rules{Policies: policy.Shipped(), Clients: []policy.Client{
			{Name: "platform", Identity: devpki.Identity("platform"), Role: policy.Platform, KeySets: []string{"gd"}},
		}}}
		for _, name := range officersOfTest {
			public, err := ssh.NewPublicKey(officerKey(name).Public())
			if err != nil {
				return err
			}
			c.Officers = append(c.Officers, custody.Officer{Name: name, Key: custody.OfficerKeyText(public)})
			c.Rules.Clients = append(c.Rules.Clients, policy.Client{Name: name, Identity: devpki.Identity(name), Role: policy.Officer, KeySets: []string{"gd"}})
		}
		if _, err := o.Found(context.Background(), c); err != nil {
			return err
		}
		_, err := approve(o, custody.Change{Act: policy.CreateKeySet, KeySet: &custody.Definition{
			Name: "gd", Algorithm: suite.TDES, Profile: "pboc-ep", Issuer: "fixed", Factors: []string{"1000100010001000"}, TimeZone: "Asia/Shanghai", MAC1FailureLimit: 5,
		}})
		return err
	})
}

// makeToken makes a token, with a configuration NAME.yaml that names it and a store of its own, NAME.db.
func makeToken(dir, name string) error {
	made, err := softhsm.Init(filepath.Join(dir, name), name, "test-pin-1234", "test-so-pin-1234")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "pin"), []byte("test-pin-1234"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".yaml"), fmt.Appendf(nil, `listen: 127.0.0.1:0
admin: 127.0.0.1:0
tls: {certificate: tls/server.crt, key: tls/server.key, clientCA: tls/ca.crt}
token: {module: %q, label: %s, pin: {file: pin}, softhsmConf: %q, development: true}
store: {sqlite: %s.db}
audit: {directory: %s-audit, origin: pursekeeper/test}
clients: [{name: platform, identity: %q, role: platform, keySets: [gd]}]
keySets: [{name: gd, algorithm: 3DES, profile: pboc-ep, issuerFactors: ["1000100010001000"], timeZone: Asia/Shanghai,
  keys: [{kind: load, version: 1, state: active, boundary: TOKEN, kcv: "000000"}]}]
`, made.Module, name, made.ConfPath, name, name, devpki.Identity("platform")), 0o600)
}

// inOffice lets officers work on the first store.
func inOffice(dir string, do func(*custody.Office) error) (err error) {
	cfg, err := config.Read(filepath.Join(dir, "first.yaml"))
	if err != nil {
		return err
	}
	s, err := openStore(context.Background(), cfg)
	if err != nil {
		return err
	}
	office, err := custody.NewOffice(custody.Options{Store: s, Node: "test", IssuerLevels: issuerLevels})
	if err == nil {
		err = do(office)
	}
	if closed := s.Close(); err == nil {
		err = closed
	}
	return err
}

// approve has alice propose, and bob approve.
func approve(o *custody.Office, change custody.Change) (id string, err error) {
	change.Reason = "a test"
	request, err := o.Propose(context.Background(), custody.Caller{Client: "alice", Role: policy.Officer}, custody.Proposal{Change: change})
	if err != nil {
		return "", err
	}
	signer, err := ssh.NewSignerFromKey(officerKey("bob"))
	if err != nil {
		return "", err
	}
	signature, err := sshsig.Sign(bytes.NewReader(request.Body), signer, sshsig.HashSHA512, custody.Namespace)
	if err != nil {
		return "", err
	}
	request, err = o.Approve(context.Background(), custody.Caller{Client: "bob", Role: policy.Officer}, request.ID, sshsig.Armor(signature))
	return request.ID, err
}

// cmdToken is `token NAME`: another token.
func cmdToken(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(makeToken(ts.Getenv("WORK"), args[0]))
}

// cmdChange is `change VARIABLE JSON…`: an approved change of those members, whose id goes into the variable.
func cmdChange(ts *testscript.TestScript, _ bool, args []string) {
	var change custody.Change
	decoder := json.NewDecoder(strings.NewReader(strings.Join(args[1:], " ")))
	decoder.DisallowUnknownFields()
	ts.Check(decoder.Decode(&change))
	ts.Check(inOffice(ts.Getenv("WORK"), func(o *custody.Office) error {
		id, err := approve(o, change)
		ts.Setenv(args[0], id)
		return err
	}))
}

// cmdProgram is `[!] pursekeeper ARGUMENT…`, without a terminal.
func cmdProgram(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(executable, args...)
	if (err != nil) != neg {
		ts.Fatalf("pursekeeper %v: %v", args, err)
	}
}

// cmdReplace is `replace FILE TO FROM WITH…`: a copy of a file with texts replaced, environment variables among them.
func cmdReplace(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	for i := 2; i+1 < len(args); i += 2 {
		if !strings.Contains(text, args[i]) {
			ts.Fatalf("no %q in %s", args[i], args[0])
		}
		text = strings.Replace(text, args[i], args[i+1], 1)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// cmdHides is `hides FILE DIGITS…`: no six digits in a row of a component are in the file.
func cmdHides(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.ToUpper(strings.ReplaceAll(ts.ReadFile(args[0]), " ", ""))
	for _, component := range args[1:] {
		digits := strings.ToUpper(strings.ReplaceAll(component, " ", ""))
		for at := 0; at+6 <= len(digits); at++ {
			if strings.Contains(text, digits[at:at+6]) {
				ts.Fatalf("%s shows digits %d to %d of a component", args[0], at+1, at+6)
			}
		}
	}
}

// cmdObjects is `objects TOKEN N`: the token has so many objects, as SoftHSM keeps them on the disk.
func cmdObjects(ts *testscript.TestScript, _ bool, args []string) {
	found, err := filepath.Glob(filepath.Join(ts.Getenv("WORK"), args[0], "tokens", "*", "*.object"))
	ts.Check(err)
	objects := 0
	for _, file := range found {
		if filepath.Base(file) != "token.object" {
			objects++
		}
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	if objects != want {
		ts.Fatalf("the token %s has %d objects, expected %d", args[0], objects, want)
	}
}
