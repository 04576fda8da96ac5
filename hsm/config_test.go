package hsm

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Every return code that the binding knows has a row, and every row is a code that it knows.
func TestEveryReturnCodeHasAClass(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	require.NoError(t, err)
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "zconst.go"), nil, 0)
	require.NoError(t, err)
	known := map[pkcs11.Error]string{}
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "CKR_") || spec.Names[0].Name == "CKR_VENDOR_DEFINED" {
			return true
		}
		var code uint
		_, err := fmt.Sscanf(spec.Values[0].(*ast.BasicLit).Value, "0x%X", &code)
		require.NoError(t, err)
		known[pkcs11.Error(code)] = spec.Names[0].Name
		return true
	})
	require.Len(t, known, 94, "PKCS#11 v2.40")
	for code, name := range known {
		assert.Contains(t, returnCodes, code, name)
	}
	for code := range returnCodes {
		assert.Contains(t, known, code)
	}
}

func TestClassOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want class
	}{
		{nil, classNone},
		{errors.New("of this program"), classRequest},
		{context.Canceled, classRequest},
		{pkcs11.Error(pkcs11.CKR_DATA_LEN_RANGE), classRequest},
		{fmt.Errorf("wrapped: %w", pkcs11.Error(pkcs11.CKR_SESSION_CLOSED)), classSession},
		{pkcs11.Error(pkcs11.CKR_USER_NOT_LOGGED_IN), classStale},
		{pkcs11.Error(pkcs11.CKR_PIN_LOCKED), classPIN},
		{pkcs11.Error(pkcs11.CKR_VENDOR_DEFINED + 7), classDevice},
		{pkcs11.Error(0x1234), classDevice},
		{errLength, classSession},
		{errWrittenOff, classSession},
	} {
		assert.Equal(t, c.want, classOf(c.err), "%v", c.err)
	}
}

func TestConfigIsValidated(t *testing.T) {
	good := Config{Module: "/module.so", TokenLabel: "t", PIN: func(context.Context) (secret.Bytes, error) { return secret.Bytes{}, nil },
		Keys: []KeySpec{{Label: "a", Kind: keyderive.KindLoad, Algorithm: suite.TDES, Boundary: keyderive.BoundaryToken}}}
	config, err := good.validated()
	require.NoError(t, err)
	assert.Equal(t, DefaultInFlight, config.InFlight)
	assert.Equal(t, DefaultQueue, config.Queue)
	assert.Equal(t, DefaultHang, config.Hang)
	for want, change := range map[string]func(*Config){
		"module":             func(c *Config) { c.Module = "" },
		"token label":        func(c *Config) { c.TokenLabel = strings.Repeat("x", 33) },
		"pin":                func(c *Config) { c.PIN = nil },
		"in flight":          func(c *Config) { c.InFlight = -1 },
		"queue":              func(c *Config) { c.Queue = maxQueue + 1 },
		"hang":               func(c *Config) { c.Hang = 1 },
		"profile":            func(c *Config) { c.Profile.SM4ECB = 1 },
		`keys[1]: label "a"`: func(c *Config) { c.Keys = append(c.Keys, c.Keys[0]) },
		"keys[0]: label":     func(c *Config) { c.Keys = []KeySpec{{}} },
	} {
		config := good
		change(&config)
		_, err := Open(context.Background(), config)
		assert.ErrorContains(t, err, "token config: "+want)
	}
}

// One owner of the module in a process (rule 1), also against somebody who does not ask this package.
func TestOneOwner(t *testing.T) {
	made := hsmtest.NewToken(t)
	first, err := Open(context.Background(), configOf(made))
	require.NoError(t, err)
	_, err = Open(context.Background(), configOf(made))
	require.ErrorIs(t, err, ErrOwned)
	require.NoError(t, first.Close())

	stranger := pkcs11.New(made.Module)
	require.NoError(t, stranger.Initialize())
	_, err = Open(context.Background(), configOf(made))
	require.ErrorIs(t, err, ErrOwned)
	require.NoError(t, stranger.Finalize(), "the stranger's library was left alone")
	stranger.Destroy()

	second, err := Open(context.Background(), configOf(made))
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

func TestOpenRefusals(t *testing.T) {
	made := hsmtest.NewToken(t)
	for want, change := range map[string]func(*Config){
		"no such file":      func(c *Config) { c.Module = "/none.so" },
		"no PKCS#11 module": func(c *Config) { c.Module = made.ConfPath },
		"in none of":        func(c *Config) { c.TokenLabel = "another" },
		"it is empty":       func(c *Config) { c.PIN = func(context.Context) (secret.Bytes, error) { return secret.Bytes{}, nil } },
	} {
		config := configOf(made)
		change(&config)
		_, err := Open(context.Background(), config)
		assert.ErrorContains(t, err, want)
	}
	token, err := Open(context.Background(), configOf(made))
	require.NoError(t, err, "a refusal gives the module back")
	require.NoError(t, token.Close())
}
