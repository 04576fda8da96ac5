package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	namedTest = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	namedFile = regexp.MustCompile("`((?:\\.ci|api|audit|cmd|crypto|hsm|internal|keyderive|policy|purse|signer|store|testvectors)/[a-z0-9_/.-]+)`")
)

// What SECURITY.md leans on is there: each test that it names, and each file or folder.
func TestSecurityClaimsNameWhatIsThere(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "SECURITY.md"))
	require.NoError(t, err)
	tests := testNames(t)
	named := namedTest.FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, named)
	for _, match := range named {
		assert.True(t, tests[match[1]], "SECURITY.md names the test %s, which is not there", match[1])
	}
	for _, match := range namedFile.FindAllStringSubmatch(string(text), -1) {
		_, err := os.Stat(filepath.Join(root(t), match[1]))
		assert.NoError(t, err, "SECURITY.md names %s", match[1])
	}
}

// testNames are the names of all tests of the project.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, p := range packages(t) {
		for _, name := range append(p.TestGoFiles, p.XTestGoFiles...) {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
					names[f.Name.Name] = true
				}
			}
		}
	}
	return names
}
