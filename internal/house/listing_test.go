package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/pursekeeper/pursekeeper"

// listed is what `go list` says of one package.
type listed struct {
	ImportPath   string
	Dir          string
	Module       *struct{ Path string }
	Imports      []string
	TestImports  []string
	XTestImports []string
	GoFiles      []string
	CgoFiles     []string
	TestGoFiles  []string
	XTestGoFiles []string
}

// folder is the package's folder below the module's, "." for the module's own.
func (p listed) folder() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

// ours are the folders of the project that it imports, tests left out.
func (p listed) ours() (folders []string) {
	for _, path := range p.Imports {
		if folder, ok := strings.CutPrefix(path, module+"/"); ok {
			folders = append(folders, folder)
		}
	}
	return folders
}

// packages lists those of the project. The listing is of all dependencies, so that a package of ours that only another
// module's pulled in would be in it.
func packages(t *testing.T) []listed {
	t.Helper()
	all, err := listing()
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all
}

// listing runs `go list` once for all tests.
var listing = sync.OnceValues(func() (all []listed, err error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Module,Imports,TestImports,XTestImports,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if p.Module != nil && p.Module.Path == module {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	return all, nil
})

// root is the folder of the module.
func root(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../..")
	require.NoError(t, err)
	return path
}
