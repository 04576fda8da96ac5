package purse_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
)

// Every fuzz target of this package has seeds on disk: a target that starts from nothing tests nothing in a short run.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	targets := 0
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, declared := range parsed.Decls {
			if f, ok := declared.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Fuzz") {
				targets++
				seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name.Name))
				require.NoError(t, err)
				assert.NotEmpty(t, seeds, f.Name.Name)
			}
		}
	}
	assert.Positive(t, targets)
}

// laidOut is a value with a fixed layout.
type laidOut interface{ Bytes() []byte }

func parsed[T laidOut](parse func([]byte) (T, error)) func([]byte) (laidOut, error) {
	return func(b []byte) (laidOut, error) { v, err := parse(b); return v, err }
}

// Whatever a layout accepts it writes back byte for byte, and it accepts nothing of another length.
func FuzzLayouts(f *testing.F) {
	layouts := map[string]struct {
		size  int
		parse func([]byte) (laidOut, error)
	}{
		"load init":         {16, parsed(purse.ParseLoadInit)},
		"unload init":       {16, parsed(purse.ParseUnloadInit)},
		"overdraft init":    {19, parsed(purse.ParseOverdraftInit)},
		"purchase init":     {15, parsed(purse.ParsePurchaseInit)},
		"debit answer":      {8, parsed(purse.ParseDebitAnswer)},
		"prove answer":      {8, parsed(purse.ParseProveAnswer)},
		"balance":           {4, parsed(purse.ParseBalance)},
		"log record":        {23, parsed(purse.ParseLogRecord)},
		"initialize":        {11, parsed(purse.ParseInitialize)},
		"initialize update": {7, parsed(purse.ParseInitializeUpdate)},
		"completion":        {11, parsed(purse.ParseCompletion)},
		"limit update":      {14, parsed(purse.ParseLimitUpdate)},
		"debit":             {15, parsed(purse.ParseDebitRequest)},
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, layout := range layouts {
			v, err := layout.parse(b)
			if err != nil {
				var field *purse.FieldError
				require.ErrorAs(t, err, &field, name)
				continue
			}
			assert.Len(t, b, layout.size, name)
			assert.Equal(t, b, v.Bytes(), name)
		}
	})
}

func FuzzAPDU(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := purse.ParseAPDU(b)
		if err != nil {
			return
		}
		assert.Equal(t, b, a.Bytes())
		if _, data, _, err := purse.SplitSecure(a); err == nil {
			assert.Equal(t, a.Data[:len(a.Data)-4], data)
		}
	})
}

func FuzzHexFields(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		b, err := purse.ParseHexRange("field", text, 0, -1)
		if err == nil {
			assert.Equal(t, strings.ToUpper(strings.ReplaceAll(text, " ", "")), upper(b))
		}
		if factor, err := purse.ParseCardSerial(text); err == nil {
			again, err := purse.ParseCardSerial(upper(factor[:]))
			require.NoError(t, err)
			assert.Equal(t, factor, again, "a factor is its own canonical serial")
		}
		if d, err := purse.ParseDate(text); err == nil {
			assert.True(t, d.Valid())
		}
		if v, err := purse.ParseTime(text); err == nil {
			assert.True(t, v.Valid())
		}
		if tti, err := purse.ParseTTI(text); err == nil {
			assert.True(t, tti.Valid())
		}
		_, _ = purse.ParseLoadInitHex(text)
		_, _ = purse.ParseOverdraftInitHex(text)
		_, _ = purse.ParsePurchaseInitHex(text)
	})
}

func FuzzPIN(f *testing.F) {
	f.Fuzz(func(t *testing.T, digits string, packed []byte) {
		if p, err := purse.ParsePIN(digits); err == nil {
			assert.Equal(t, digits, strings.TrimSuffix(upper(p.Reveal("test")), "F"))
			again, err := purse.ParsePackedPIN(p.Reveal("test"))
			require.NoError(t, err)
			assert.True(t, p.Equal(again))
		}
		if p, err := purse.ParsePackedPIN(packed); err == nil {
			assert.Equal(t, packed, p.Reveal("test"))
			again, err := purse.ParsePIN(strings.TrimSuffix(upper(packed), "F"))
			require.NoError(t, err)
			assert.True(t, p.Equal(again))
		}
	})
}

func FuzzUnframe(f *testing.F) {
	fmcos, pboc := profile(f, purse.ProfileFMCOS), profile(f, purse.ProfilePBOC)
	f.Fuzz(func(t *testing.T, blocks []byte) {
		for _, p := range []purse.Profile{fmcos, pboc} {
			for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
				data, err := p.Unframe(alg, blocks)
				if err != nil {
					continue
				}
				assert.Equal(t, int(blocks[0]), len(data))
				assert.True(t, bytes.HasPrefix(blocks[1:], data))
			}
		}
	})
}

func FuzzProfile(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := purse.ParseProfile(data)
		if err != nil {
			return
		}
		assert.NotEmpty(t, p.Name())
		assert.Contains(t, []int{4, 8}, p.ChallengeLen())
		assert.True(t, p.UnloadPurse().Valid())
		for _, kind := range purse.KeyKinds() {
			row, err := p.KeyRow(kind)
			require.NoError(t, err)
			back, ok := p.KindOf(row)
			assert.True(t, ok)
			assert.Equal(t, kind, back)
		}
	})
}
