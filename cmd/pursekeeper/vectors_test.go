package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/testvectors"
)

func vectorsForms(t *testing.T) testvectors.File {
	t.Helper()
	files, err := vectorsFiles("../../testvectors/testdata/forms.json")
	require.NoError(t, err)
	return files[0]
}

// All vectors in a throw-away token and in memory; nothing is left on disk.
func TestVectorsReplay(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("SOFTHSM2_CONF", "")
	var out bytes.Buffer
	require.NoError(t, replayVectors(context.Background(), &out, vectorsReplayCmd{Target: "all"}), out.String())
	text := out.String()
	assert.Regexp(t, `(?m)^boundary TOKEN    3DES: purchase, load,`, text)
	assert.Regexp(t, `(?m)^boundary CARD     3DES: tac, pin-reload$`, text)
	assert.Regexp(t, `(?m)^boundary PROCESS  SM4: `, text)
	for _, operation := range testvectors.Operations() {
		for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			for _, target := range []string{"token", "memory"} {
				assert.Regexp(t, `(?m)^ *`+string(operation)+` +`+alg.String()+` +`+target+` `, text)
			}
		}
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	assert.Regexp(t, regexp.MustCompile(`^140 vectors, \d+ values, [1-9]\d* compared by effect, 4 refused as expected, 0 failed$`), lines[len(lines)-1])
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// Every form that the format allows holds in a token, and a wrong value of each kind and operation fails there as it does in
// memory.
func TestVectorsInATokenHoldAndFail(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("SOFTHSM2_CONF", "")
	token, _, done, err := vectorsToken(context.Background(), "")
	require.NoError(t, err)
	defer func() { require.NoError(t, done()) }()
	engine := newVectorsEngine(token)
	forms := vectorsForms(t)
	report, err := testvectors.Replay(context.Background(), engine, forms)
	require.NoError(t, err)
	assert.Empty(t, report.Failures)
	assert.True(t, report.Holds())
	assert.Positive(t, report.Total().ByEffect)

	embedded, err := testvectors.Embedded()
	require.NoError(t, err)
	flips := 0
	for _, file := range append(embedded, forms) {
		for i, v := range file.Vectors {
			for _, value := range slices.Sorted(maps.Keys(v.Out)) {
				if value == v.Refused {
					continue
				}
				wrong := v
				wrong.Out = maps.Clone(v.Out)
				wrong.Out[value] = slices.Clone(v.Out[value])
				wrong.Out[value][i%len(wrong.Out[value])] ^= 0x10 << (i % 4) // no parity bit
				report, err := testvectors.Replay(context.Background(), engine, testvectors.File{Vectors: []testvectors.Vector{wrong}})
				require.NoError(t, err)
				require.False(t, report.Holds(), "%s %s", v.ID, value)
				require.Equal(t, value, report.Failures[0].Value, v.ID)
				flips++
			}
		}
	}
	assert.Greater(t, flips, 500)
}

// A configured token is used as it is: the keys of a replay are of the session, and leave nothing.
func TestVectorsReplayInAConfiguredToken(t *testing.T) {
	t.Setenv("SOFTHSM2_CONF", "")
	dir := filepath.Join(t.TempDir(), "dev")
	folder := devFolder{dir: dir, listen: "127.0.0.1:0", admin: "127.0.0.1:0", say: io.Discard}
	_, err := folder.prepare(context.Background(), "", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	objects := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "token", "tokens", "*", "*.object"))
		require.NoError(t, err)
		return found
	}
	before := objects()
	require.NotEmpty(t, before)
	var out bytes.Buffer
	c := vectorsReplayCmd{Target: "token", Config: filepath.Join(dir, "pursekeeper.yaml")}
	require.NoError(t, replayVectors(context.Background(), &out, c), out.String())
	assert.Regexp(t, `70 vectors, \d+ values, .* 0 failed\n$`, out.String())
	assert.Equal(t, before, objects())
}

func TestVectorsReplayFails(t *testing.T) {
	dir := t.TempDir()
	good, err := os.ReadFile("../../testvectors/data/published.json")
	require.NoError(t, err)
	for _, c := range []struct{ name, old, new, message, out string }{
		{"a wrong value", `"mac2": "3A845BF0"`, `"mac2": "3A845BF1"`, "test vectors do not hold",
			"FAILED blog-load-3des on memory: mac2 differs: expected 3A845BF1, got 3A845BF0"},
		{"an unknown field", `"vectors"`, `"vektors"`, "unknown field", ""},
		{"a repeated id", `"id": "blog-purchase-3des"`, `"id": "blog-load-3des"`, "id: repeated", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(dir, "vectors.json")
			require.NoError(t, os.WriteFile(file, bytes.Replace(good, []byte(c.old), []byte(c.new), 1), 0o600))
			var out bytes.Buffer
			err := replayVectors(context.Background(), &out, vectorsReplayCmd{File: file, Target: "memory"})
			require.ErrorContains(t, err, c.message)
			assert.Contains(t, out.String(), c.out)
		})
	}
	t.Run("no file", func(t *testing.T) {
		err := replayVectors(context.Background(), &bytes.Buffer{}, vectorsReplayCmd{File: filepath.Join(dir, "none"), Target: "memory"})
		require.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("a config without a use", func(t *testing.T) {
		err := replayVectors(context.Background(), &bytes.Buffer{}, vectorsReplayCmd{Config: "x", Target: "memory"})
		require.ErrorContains(t, err, "config")
	})
}
