package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
	"github.com/pursekeeper/pursekeeper/testvectors"
)

// The program replays every vector in an openCryptoki token that a configuration names, and says at which boundaries.
func TestVectorsReplayOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		file := openCryptokiFile(t, made)
		status, out := run(t, []string{"vectors", "replay", "--target=token", "--config", file})
		t.Log(out)
		require.Zero(t, status)
		assert.NotContains(t, out, "boundary TOKEN")
		assert.Regexp(t, `(?m)^boundary CARD     3DES: purchase, load,`, out)
		assert.Regexp(t, `(?m)^boundary PROCESS  SM4: purchase, load,`, out)
		for _, operation := range testvectors.Operations() {
			for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
				assert.Regexp(t, `(?m)^ *`+string(operation)+` +`+alg.String()+` +token +[1-9]`, out)
			}
		}
		assert.Regexp(t, `70 vectors, \d+ values, .* 0 failed\n$`, out)
		assert.NotContains(t, out, made.PIN)
	})
}

// openCryptokiFile writes a whole configuration with the token in it: a development folder's, whose keys are as strict as such a token allows.
func openCryptokiFile(t *testing.T, made *hsmtest.Token) string {
	t.Helper()
	t.Setenv("SOFTHSM2_CONF", "")
	dir := filepath.Join(t.TempDir(), "dev")
	folder := devFolder{dir: dir, listen: "127.0.0.1:0", admin: "127.0.0.1:0", say: io.Discard}
	_, err := folder.prepare(context.Background(), "", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	file := filepath.Join(dir, "pursekeeper.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, change := range [][2]string{
		{`(?m)^  module: .*$`, "  module: " + made.Module + "\n  profile: opencryptoki"},
		{`(?m)^  label: .*$`, "  label: " + made.Label},
		{`(?m)^  softhsmConf: .*\n`, ""},
		{`boundary: TOKEN`, "boundary: CARD"},
	} {
		expression := regexp.MustCompile(change[0])
		require.Regexp(t, expression, string(text))
		text = expression.ReplaceAll(text, []byte(change[1]))
	}
	require.NoError(t, os.WriteFile(file, text, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pin"), []byte(made.PIN+"\n"), 0o600))
	return file
}
