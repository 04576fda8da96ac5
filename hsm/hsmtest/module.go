package hsmtest

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sources are the fault module's: embedded, so that a test finds them whatever its working directory is.
//
//go:embed module/*.c module/*.h
var sources embed.FS

const moduleName = "pkcs11-fault.so"

// BuildModule returns the path of the fault module, compiled by $CC, by default cc, when this user has not compiled these
// sources with this compiler before. Test binaries that build it at once do not disturb each other: the module is put in
// place by a rename.
func BuildModule(tb testing.TB) string {
	tb.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		tb.Fatalf("hsmtest: fault module: %v", err)
	}
	path, err := buildModule(filepath.Join(cache, "pursekeeper", "hsmtest"))
	if err != nil {
		tb.Fatalf("hsmtest: fault module: %v", err)
	}
	return path
}

func buildModule(cache string) (string, error) {
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	words := strings.Fields(compiler)
	key, err := buildKey(words)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, key)
	path := filepath.Join(dir, moduleName)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := compile(words, work); err != nil {
		return "", err
	}
	return path, os.Rename(filepath.Join(work, moduleName), path)
}

// libraries come after the sources: libcrypto has SM4, for the mechanisms that a test asks for (vendor.go).
var libraries = []string{"-ldl", "-lpthread", "-lcrypto"}

// compileArguments come before the sources.
func compileArguments() []string {
	return []string{"-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror",
		"-shared", "-fPIC", "-fvisibility=hidden",
		// The module stays loaded: a call that hangs is inside its code.
		"-Wl,-z,nodelete,-z,defs"}
}

// buildKey names a build by what goes into it: the compiler as it describes itself, its arguments, and the sources.
func buildKey(compiler []string) (string, error) {
	version, err := exec.Command(compiler[0], slices.Concat(compiler[1:], []string{"--version"})...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("no C compiler %s (apt-get install gcc libc6-dev libssl-dev): %w", strings.Join(compiler, " "), err)
	}
	sum := sha256.New()
	field := func(content string) { fmt.Fprintf(sum, "%d %s\n", len(content), content) }
	field(strings.Join(compiler, " "))
	field(string(version))
	field(strings.Join(slices.Concat(compileArguments(), libraries), " "))
	err = eachSource(func(name string, content []byte) error {
		field(name)
		field(string(content))
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// compile writes the sources to dir and compiles them there.
func compile(compiler []string, dir string) error {
	arguments := slices.Concat(compiler[1:], compileArguments(), []string{"-o", moduleName})
	err := eachSource(func(name string, content []byte) error {
		if strings.HasSuffix(name, ".c") {
			arguments = append(arguments, name)
		}
		return os.WriteFile(filepath.Join(dir, name), content, 0o600)
	})
	if err != nil {
		return err
	}
	command := exec.Command(compiler[0], append(arguments, libraries...)...)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// eachSource visits the sources in the order of their names.
func eachSource(visit func(name string, content []byte) error) error {
	entries, err := sources.ReadDir("module")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		content, err := sources.ReadFile("module/" + entry.Name())
		if err != nil {
			return err
		}
		if err := visit(entry.Name(), content); err != nil {
			return err
		}
	}
	return nil
}
