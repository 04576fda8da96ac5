package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pure packages have no clock, randomness, log or I/O of their own: what they need comes in as arguments, so that what they
// compute is what a test sees.
func pure(folder string) bool {
	return strings.HasPrefix(folder, "crypto/") || slices.Contains([]string{"keyderive", "purse", "policy", "signer/ledger", "signer/limits"}, folder)
}

// impure are the imports, with all below them, that reach out of the process or are not the same twice.
var impure = []string{"os", "net", "log", "syscall", "math/rand", "crypto/rand", "io/fs", "io/ioutil", "database", "plugin", "testing",
	"golang.org/x/sys", "golang.org/x/net", "github.com/miekg/pkcs11", "github.com/hashicorp/vault"}

// allowedOf are the names that a pure package may use of a package that is not pure as a whole.
var allowedOf = map[string][]string{
	"log/slog": {"Value", "LogValuer", "StringValue"}, // how a type says that it must not be logged
	"time": {"Time", "Duration", "Month", "Weekday", "Location", "UTC", "Date", "Parse", "ParseInLocation", "Unix", "UnixMilli", "UnixMicro",
		"Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour", "RFC3339", "RFC3339Nano", "DateOnly", "DateTime",
		"January", "February", "December"},
	"embed": {}, // blank, or FS in purse, whose shipped profiles are data of the program
}

func TestPurePackagesReachNowhere(t *testing.T) {
	checked := 0
	for _, p := range packages(t) {
		if !pure(p.folder()) {
			continue
		}
		checked++
		assert.Empty(t, p.CgoFiles, p.folder())
		for _, name := range p.GoFiles {
			for _, fault := range faults(t, filepath.Join(p.Dir, name), nil, p.folder()) {
				t.Errorf("%s/%s: %s", p.folder(), name, fault)
			}
		}
	}
	assert.GreaterOrEqual(t, checked, 4)
}

// faults are the uses, in one file, of what its folder's package keeps away from. src is as for parser.ParseFile.
func faults(t *testing.T, path string, src any, folder string) (found []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution)
	require.NoError(t, err)
	partly := map[string]string{} // the name in the file of an import that may be used in part
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		name := imported[strings.LastIndexByte(imported, '/')+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		_, part := allowedOf[imported]
		switch {
		case part && name == ".":
			found = append(found, "imports all of "+imported+" by a dot")
		case imported == "embed" && folder == "purse":
		case part:
			partly[name] = imported
		case slices.ContainsFunc(impure, func(i string) bool { return imported == i || strings.HasPrefix(imported, i+"/") }):
			found = append(found, "imports "+imported)
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if name, ok := selector.X.(*ast.Ident); ok {
			imported, part := partly[name.Name]
			if part && !slices.Contains(allowedOf[imported], selector.Sel.Name) {
				found = append(found, "uses "+imported+"."+selector.Sel.Name)
			}
		}
		return true
	})
	return found
}

func TestFaultsAreSeen(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"a file", `import "os"`, "imports os"},
		{"below", `import "net/http"`, "imports net/http"},
		{"a log", `import "log"`, "imports log"},
		{"randomness", `import r "math/rand/v2"`, "imports math/rand/v2"},
		{"the clock", `import "time"; var x = time.Now()`, "uses time.Now"},
		{"the clock by another name", `import clock "time"; func f() { clock.Sleep(1) }`, "uses time.Sleep"},
		{"the clock by a dot", `import . "time"; var x = Now()`, "imports all of time by a dot"},
		{"a structured log", `import "log/slog"; func f() { slog.Info("x") }`, "uses log/slog.Info"},
		{"embedded files", `import "embed"; var fs embed.FS`, "uses embed.FS"},
	}
	for _, test := range tests {
		assert.Equal(t, []string{test.want}, faults(t, "x.go", "package x; "+test.src, "policy"), test.name)
	}
	assert.Empty(t, faults(t, "x.go", `package x; import ("time"; "log/slog"); type T time.Time; func (T) LogValue() slog.Value { return slog.StringValue("") }`, "policy"))
	assert.Empty(t, faults(t, "x.go", `package x; import "embed"; var fs embed.FS`, "purse"))
}
