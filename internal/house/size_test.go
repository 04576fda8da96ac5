package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The folders at the top: those of DESIGN §1, the checks in .ci and the manual in docs. Another needs a reason in the commit that makes it, and its name here.
var top = map[string]bool{
	".ci": true, "api": true, "audit": true, "cmd": true, "crypto": true, "custody": true, "docs": true, "hsm": true, "internal": true,
	"keyderive": true, "policy": true, "purse": true, "signer": true, "store": true, "testvectors": true,
}

// notOurs are folders at the top that git does not track.
var notOurs = map[string]bool{".git": true, ".pursekeeper": true, "bin": true}

func TestTopLevelFolders(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() {
			assert.True(t, top[e.Name()] || notOurs[e.Name()], "the folder %s has no place at the top", e.Name())
		} else {
			assert.NotEqual(t, ".go", filepath.Ext(e.Name()), "%s: no Go files at the top", e.Name())
		}
	}
}

func TestFoldersHaveNouns(t *testing.T) {
	for _, p := range packages(t) {
		for _, part := range strings.Split(p.folder(), "/") {
			assert.NotContains(t, []string{"util", "utils", "helper", "helpers", "common", "pkg", "misc", "base"}, part, p.folder())
		}
	}
	files, err := filepath.Glob(filepath.Join(root(t), "crypto", "*.go"))
	require.NoError(t, err)
	assert.Empty(t, files, "crypto has no Go files of its own")
}

// The longest that a file, a function and the file of main may be, in lines. Generated code is as long as it is.
const (
	maxFile     = 500
	maxFunction = 60
	maxMain     = 80
)

func TestFilesAndFunctionsAreShort(t *testing.T) {
	seen := 0
	for _, p := range packages(t) {
		if strings.HasPrefix(p.folder(), "api/") {
			continue
		}
		for _, names := range [][]string{p.GoFiles, p.CgoFiles, p.TestGoFiles, p.XTestGoFiles} {
			for _, name := range names {
				seen++
				checkFile(t, filepath.Join(p.Dir, name), p.folder()+"/"+name)
			}
		}
	}
	assert.NotZero(t, seen)
}

func checkFile(t *testing.T, path, name string) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	lines := set.File(file.Pos()).LineCount()
	assert.Less(t, lines, maxFile, "%s is too long", name)
	if strings.HasSuffix(name, "/main.go") {
		assert.LessOrEqual(t, lines, maxMain, "%s is too long: main decides nothing", name)
	}
	if strings.HasSuffix(name, "_test.go") {
		return // a table may be long
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			length := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1
			assert.LessOrEqual(t, length, maxFunction, "%s: %s is too long", name, f.Name.Name)
		}
	}
}
