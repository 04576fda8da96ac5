package main

import (
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/witness/witnesstest"
)

// An auditor with a certificate and the public key does over mTLS what one with the folder does, and gets the same.
func TestAnAuditorAsksTheSigner(t *testing.T) {
	h := newHome(t)
	s := serveChild(h, h.path("pursekeeper.yaml"))
	index := s.load()
	s.sealed(index)
	remote := []string{"--server", "https://" + s.public, "--tls", h.path("tls"), "--key", h.path("audit.pub")}
	local := []string{"--dir", h.path("audit")}
	for _, command := range [][]string{
		{"audit", "list", "--card", storySerial},
		{"audit", "list", "--from", fmt.Sprint(index), "--limit", "1"},
		{"audit", "export", "--operation", "AuthorizeLoad"},
		{"audit", "export", "--operation", "AuthorizeLoad", "--format", "csv"},
	} {
		status, there := run(t, append(command, remote...))
		require.Zero(t, status, there)
		status, here := run(t, append(command, local...))
		require.Zero(t, status, here)
		assert.Contains(t, here, storySerial)
		assert.Equal(t, here, there, "%v", command)
	}
	for _, command := range [][]string{{"audit", "show", fmt.Sprint(index)}, {"audit", "show", "--card", storySerial}} {
		status, there := run(t, append(command, remote...))
		require.Zero(t, status, there)
		status, here := run(t, append(command, local...))
		require.Zero(t, status, here)
		assert.Equal(t, here, there, "%v", command)
	}

	proof := filepath.Join(t.TempDir(), "load.tlog-proof")
	status, out := run(t, append([]string{"audit", "prove", fmt.Sprint(index), "--out", proof}, remote...))
	require.Zero(t, status, out)
	status, out = run(t, []string{"audit", "check-proof", proof, "--key", h.path("audit.pub")})
	require.Zero(t, status, out)
	assert.Contains(t, out, `"mac2":"60B7B5B7"`)
	saved := filepath.Join(t.TempDir(), "saved")
	status, out = run(t, append([]string{"audit", "checkpoint"}, remote...))
	require.Zero(t, status, out)
	require.NoError(t, os.WriteFile(saved, []byte(out), 0o600))
	status, out = run(t, []string{"audit", "verify", h.path("audit"), "--key", h.path("audit.pub"), "--checkpoint", saved})
	assert.Zero(t, status, out)

	status, out = run(t, append([]string{"audit", "show", "100000"}, remote...))
	assert.Equal(t, 1, status, out)
	assert.Contains(t, out, "not_found")
	status, out = run(t, append([]string{"audit", "list", "--as", "platform"}, remote...))
	assert.Equal(t, 1, status, out)
	assert.Contains(t, out, "role platform may not ListEntries")
	other := filepath.Join(t.TempDir(), "other.pub")
	require.NoError(t, os.WriteFile(other, []byte("log.example/a+1c873df7+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs\n"), 0o600)) // a published test key
	remote[len(remote)-1] = other
	status, out = run(t, append([]string{"audit", "prove", fmt.Sprint(index), "--out", proof + "2"}, remote...))
	assert.Equal(t, 1, status, out)
	assert.Contains(t, out, "not signed by the log's key")
	require.Zero(t, s.terminate())
}

// A signer with a witness: its checkpoints are cosigned, its metrics say so, and the offline verifier says what that proves; a fork
// that was shown to the witness is an alarm.
func TestASignerWithAWitness(t *testing.T) {
	h := newHome(t)
	w := witnesstest.Start(t, "witness.example/w1")
	key, err := tiles.ReadKey(h.path("audit.pub"))
	require.NoError(t, err)
	w.Know(key)
	h.write("witness.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw})))
	config := h.config("witnessed.yaml", edit{`audit: .*`, fmt.Sprintf(
		"audit: {directory: audit, witnesses: [{name: near, url: %q, ca: witness.pem, key: %q}]}", w.URL, w.VerifierKey())})
	s := serveChild(h, config)
	index := s.load()
	witnessed := func(s *served) bool {
		return s.metric(`audit_witness_entries\{witness="near"\}`) > float64(index) && s.metric(`audit_witness_waiting_seconds\{witness="near"\}`) == 0
	}
	eventually(t, "the witness signs the entry", func() bool { return witnessed(s) })
	assert.Zero(t, s.metric(`audit_witness_failed\{witness="near"\}`))
	require.Zero(t, s.terminate())

	verify := []string{"audit", "verify", h.path("audit"), "--key", h.path("audit.pub")}
	status, out := run(t, append(verify, "--witness", w.VerifierKey(), "--witnessed-within", "1h"))
	assert.Zero(t, status, out)
	assert.Contains(t, out, "witnessed    by witness.example/w1+")
	assert.Contains(t, out, "who signs only what goes on from what he signed")
	stranger := witnesstest.Start(t, "witness.example/w2")
	status, out = run(t, append(verify, "--witness", w.VerifierKey(), "--witness", stranger.VerifierKey()))
	assert.Equal(t, 1, status, out)
	assert.Contains(t, out, "WRONG        not-cosigned: 1 of the witnesses signed a checkpoint that is here, expected 2")
	status, out = run(t, append(verify, "--witness", w.VerifierKey(), "--witness", stranger.VerifierKey(), "--witnesses", "1"))
	assert.Zero(t, status, out)
	for _, wrong := range [][]string{
		{"--witness", strings.TrimSpace(h.read("audit.pub"))}, {"--witness", w.VerifierKey(), "--witness", w.VerifierKey()},
		{"--witness", w.VerifierKey(), "--witnesses", "2"}, {"--witnessed-within", "1h"},
	} {
		status, out = run(t, append(verify, wrong...))
		assert.Equal(t, 1, status, "%v %s", wrong, out)
	}

	// The record is thrown away and begun anew, with the key of the token: the new log is whole in itself, and the witness knows better.
	saved := filepath.Join(t.TempDir(), "witness")
	require.NoError(t, os.WriteFile(saved, []byte(w.Latest(key.Name())), 0o600))
	require.NoError(t, os.RemoveAll(h.path("audit")))
	for _, file := range []string{"", "-wal", "-shm"} {
		require.NoError(t, os.RemoveAll(h.path("state.db"+file)))
	}
	s = serveChild(h, config)
	s.sealed(s.load())
	eventually(t, "the alarm", func() bool {
		_, body := s.ask("/metrics")
		return strings.Contains(body, `pursekeeper_alarms_total{event="WitnessConflict"} 1`)
	})
	require.Zero(t, s.terminate())
	status, out = run(t, verify)
	assert.Zero(t, status, out)
	status, out = run(t, append(verify, "--witness", w.VerifierKey()))
	assert.Equal(t, 1, status, out)
	assert.Contains(t, out, "not-cosigned")
	status, out = run(t, append(verify, "--checkpoint", saved))
	assert.Equal(t, 1, status, out)
}
