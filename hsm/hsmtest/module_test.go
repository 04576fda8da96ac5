package hsmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBuildModuleBuildsOnce(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	var group sync.WaitGroup
	paths := make([]string, 3)
	for i := range paths {
		group.Go(func() {
			var err error
			paths[i], err = buildModule(cache)
			assert.NoError(t, err)
		})
	}
	group.Wait()
	assert.Equal(t, paths[0], paths[1])
	assert.Equal(t, paths[0], paths[2])
	entries, err := os.ReadDir(filepath.Dir(paths[0]))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no work directory is left")

	before, err := os.Stat(paths[0])
	require.NoError(t, err)
	again, err := buildModule(cache)
	require.NoError(t, err)
	after, err := os.Stat(again)
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after), "not built again")
}

func TestBuildModuleTellsCompilersApart(t *testing.T) {
	plain, err := buildKey([]string{"cc"})
	require.NoError(t, err)
	other, err := buildKey([]string{"cc", "-m64"})
	require.NoError(t, err)
	assert.Len(t, plain, 64)
	assert.NotEqual(t, plain, other)

	script := filepath.Join(t.TempDir(), "cc")
	version := func(v string) string {
		require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho "+v+"\n"), 0o700))
		key, err := buildKey([]string{script})
		require.NoError(t, err)
		return key
	}
	assert.NotEqual(t, version("1"), version("2"))
}

func TestBuildModuleLeavesNothingThatFailed(t *testing.T) {
	script := filepath.Join(t.TempDir(), "cc")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho no such luck >&2; exit 1\n"), 0o700))
	t.Setenv("CC", script)
	cache := t.TempDir()
	_, err := buildModule(cache)
	require.ErrorContains(t, err, "no such luck")
	built, err := filepath.Glob(filepath.Join(cache, "*", "*"))
	require.NoError(t, err)
	assert.Empty(t, built)
}

// The module shows nothing but C_GetFunctionList, so that no name of it meets one of the module behind it.
func TestModuleExportsOneSymbol(t *testing.T) {
	out, err := exec.Command("nm", "-D", "--defined-only", "--format=posix", BuildModule(t)).Output()
	require.NoError(t, err)
	assert.Regexp(t, `^C_GetFunctionList T [0-9a-f]+ *[0-9a-f]*\n$`, string(out))
}
