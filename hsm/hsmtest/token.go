package hsmtest

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pursekeeper/pursekeeper/hsm/softhsm"
)

// Token is a token for one test. Its PINs are test PINs, of no other token, and say so.
type Token struct {
	Module   string // path of the PKCS#11 module: SoftHSM's, or the fault module before it
	Label    string
	PIN      string // the user's
	SOPIN    string // the security officer's
	ConfPath string // SoftHSM's configuration

	Mechanisms Mechanisms // what the module adds to SoftHSM's: of a vendor token alone

	env []string
}

// Env is what a child process needs in its environment, as NAME=value, to use Token.Module.
func (t *Token) Env() []string { return slices.Clone(t.env) }

// An Option changes the token that NewToken makes.
type Option func(*Token)

// WithLabel sets the label, by default "test-" and random digits.
func WithLabel(label string) Option { return func(t *Token) { t.Label = label } }

// WithPIN sets the user's PIN, by default "test-pin-" and random digits.
func WithPIN(pin string) Option { return func(t *Token) { t.PIN = pin } }

// NewToken makes a fresh SoftHSM token in a directory that goes with the test, and sets SOFTHSM2_CONF for the rest of the test. Where SoftHSM is
// missing the test fails: a token test that did not run has shown nothing.
func NewToken(tb testing.TB, opts ...Option) *Token {
	tb.Helper()
	token := &Token{
		Label: "test-" + digits(6),
		PIN:   "test-pin-" + digits(8),
		SOPIN: "test-so-pin-" + digits(8),
	}
	for _, opt := range opts {
		opt(token)
	}
	made, err := softhsm.Init(tempDir(tb), token.Label, token.PIN, token.SOPIN)
	if err != nil {
		tb.Fatalf("hsmtest: %v", err)
	}
	token.Module, token.ConfPath = made.Module, made.ConfPath
	token.setenv(tb, made.Env()...)
	return token
}

// NewFaultToken is NewToken with the fault module before it, and what steers that. At the end of the test its rules are cleared
// and the calls that hang are let go.
func NewFaultToken(tb testing.TB, opts ...Option) (*Token, *Control) {
	tb.Helper()
	module := BuildModule(tb)
	token := NewToken(tb, opts...)
	control := newControl(tb)
	token.setenv(tb, forwardVariable+"="+token.Module, controlVariable+"="+control.path, vendorVariable+"=")
	token.Module = module
	return token, control
}

// tempDir is tb.TempDir with a name that SoftHSM can read: that one is named after the test, and a '=' or a "#01" of a subtest
// would stay in it.
func tempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "hsmtest-")
	if err != nil {
		tb.Fatalf("hsmtest: %v", err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("hsmtest: %v", err)
		}
	})
	return dir
}

// setenv puts variables into the process's environment and into Env.
func (t *Token) setenv(tb testing.TB, variables ...string) {
	tb.Helper()
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		tb.Setenv(name, value)
		t.env = append(t.env, variable)
	}
}

// digits returns n random hex digits; n is even.
func digits(n int) string {
	random := make([]byte, n/2)
	rand.Read(random) // never fails: it ends the process instead
	return hex.EncodeToString(random)
}
