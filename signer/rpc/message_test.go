package rpc

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// constants are the string constants of a type, read from the package's source: one that is added later is found.
func constants(t *testing.T, dir, kind string) (values []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		file, err := parser.ParseFile(token.NewFileSet(), name, source, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if of, ok := spec.Type.(*ast.Ident); ok && of.Name == kind {
				for _, v := range spec.Values {
					value, err := strconv.Unquote(v.(*ast.BasicLit).Value)
					require.NoError(t, err)
					values = append(values, value)
				}
			}
			return true
		})
	}
	require.NotEmpty(t, values, kind)
	return values
}

// pairs asks that names and the enum's values but UNSPECIFIED are one another's counterparts.
func pairs(t *testing.T, prefix string, names []string, enum map[string]int32, write func(string) int32) {
	t.Helper()
	var here []string
	for _, name := range names {
		here = append(here, prefix+name)
		assert.Equal(t, enum[prefix+name], write(name), name)
		assert.NotZero(t, write(name), name)
	}
	there := []string{prefix + "UNSPECIFIED"}
	for name := range enum {
		if name != there[0] {
			there = append(there, name)
		}
	}
	assert.ElementsMatch(t, there[1:], here)
	assert.Contains(t, enum, there[0])
	for _, none := range []string{"", "UNSPECIFIED", "unknown", "_"} {
		assert.Zero(t, write(none), none)
	}
}

// Every name of the house has its value in the API, and every value of the API its name in the house.
func TestNamesOfTheAPI(t *testing.T) {
	pairs(t, "OUTCOME_", constants(t, "../ledger", "Outcome"), v1.Outcome_value,
		func(n string) int32 { return int32(writeOutcome(ledger.Outcome(n))) })
	states := constants(t, "../../store", "State")
	pairs(t, "STATE_", states, v1.State_value, func(n string) int32 { return int32(writeState(store.State(n))) })
	pairs(t, "EVIDENCE_", constants(t, "../../store", "Evidence"), v1.Evidence_value,
		func(n string) int32 { return int32(writeEvidence(store.Evidence(n))) })
	var boundaries []string
	for b := keyderive.BoundaryToken; !strings.Contains(b.String(), "invalid"); b++ {
		boundaries = append(boundaries, b.String())
	}
	pairs(t, "BOUNDARY_", boundaries, v1.Boundary_value, func(n string) int32 { return int32(writeBoundary(n)) })
	pairs(t, "PURSE_", []string{"ED", "EP"}, v1.Purse_value, func(n string) int32 { return int32(writePurse(n)) })
	for _, p := range []purse.Purse{purse.ED, purse.EP} {
		assert.Equal(t, p, readPurse(writePurse(p.String())))
	}
	assert.Zero(t, readPurse(v1.Purse_PURSE_UNSPECIFIED))
	assert.Zero(t, readPurse(9))
	assert.Zero(t, writeOutcome(ledger.OutcomeOf("")))
	for _, s := range states {
		assert.NotZero(t, writeOutcome(ledger.OutcomeOf(store.State(s))), s)
	}
}

// A key is named whole or not at all; an operation names the kind that issued its MAC2.
func TestKeysInAnswers(t *testing.T) {
	assert.Nil(t, writeKey(signer.KeyUsed{}))
	for operation, kind := range map[string]keyderive.Kind{
		ledger.Load: keyderive.KindLoad, ledger.Unload: keyderive.KindUnload, ledger.Overdraft: keyderive.KindOverdraft,
	} {
		assert.Equal(t, kind, kindOf(operation))
	}
	settled := writeSettled([]store.Proved{{ID: "x", State: store.NotApplied, Evidence: store.BySibling}})
	require.Len(t, settled, 1)
	assert.Equal(t, v1.Outcome_OUTCOME_NOT_APPLIED, settled[0].Outcome)
	assert.Equal(t, v1.Evidence_EVIDENCE_SIBLING, settled[0].Evidence)
	assert.Nil(t, writeSettled(nil))
}
