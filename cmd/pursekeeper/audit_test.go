package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
)

// load has the demonstration card's load authorised and returns its audit index.
func (s *served) load() uint64 {
	s.t.Helper()
	answer, err := s.client("platform").AuthorizeLoad(s.t.Context(), &v1.AuthorizeLoadRequest{
		KeySet: "demo", CardSerial: storySerial, Purse: v1.Purse_PURSE_EP, AmountFen: storyAmount, TerminalId: storyTerminal,
		InitializeResponse: "000003E8 0007 01 00 A1B2C3D4 7E1722D0", Date: storyDate, Time: storyTime,
	})
	require.NoError(s.t, err)
	require.Equal(s.t, "60B7B5B7", answer.Mac2)
	return answer.AuditIndex
}

// sealed waits until an entry is under a checkpoint.
func (s *served) sealed(index uint64) {
	s.t.Helper()
	eventually(s.t, "the entry is sealed", func() bool { return s.metric("audit_sealed_entries") > float64(index) })
}

// A MAC2 left; within a second its entry is sealed, and an auditor with the folder, the public key and a checkpoint saved before
// verifies it all, and proves the one entry to somebody who has nothing but the key.
func TestAnAuditor(t *testing.T) {
	h := newHome(t)
	saved := filepath.Join(t.TempDir(), "saved")
	require.NoError(t, os.WriteFile(saved, []byte(h.read("audit/checkpoint")), 0o600))
	s := serveChild(h, h.path("pursekeeper.yaml"))
	began := time.Now()
	index := s.load()
	s.sealed(index)
	assert.Less(t, time.Since(began), time.Second)
	assert.EqualValues(t, 1, s.metric("audit_sealer"))
	assert.Zero(t, s.metric("audit_sealing_failed"))
	assert.Zero(t, s.metric("audit_unsealed_entries"))
	assert.Zero(t, s.metric("audit_unsealed_seconds"))

	verify := []string{"audit", "verify", h.path("audit"), "--key", h.path("audit.pub")}
	status, out := run(t, verify) // while it is written
	assert.Zero(t, status, out)
	assert.Contains(t, out, "checkpoint   pursekeeper/pursekeeper-dev, ")
	assert.Equal(t, 3, strings.Count(out, "NOT CHECKED "), out)
	status, out = run(t, append(verify, "--checkpoint", saved))
	assert.Zero(t, status, out)
	assert.Equal(t, 2, strings.Count(out, "NOT CHECKED "), out)
	assert.Contains(t, out, "NOT CHECKED  that the log had no more entries after the saved checkpoint")
	assert.Contains(t, out, "the log begins with the ")

	proof := filepath.Join(t.TempDir(), "load.tlog-proof")
	prove := []string{"audit", "prove", fmt.Sprint(index), "--dir", h.path("audit"), "--out", proof}
	status, out = run(t, prove)
	assert.Zero(t, status, out)
	status, out = run(t, prove)
	assert.Equal(t, 1, status, "a proof is not written over")
	assert.Contains(t, out, "file exists")
	check := []string{"audit", "check-proof", proof, "--key", strings.TrimSpace(h.read("audit.pub"))}
	status, out = run(t, check)
	assert.Zero(t, status, out)
	assert.Contains(t, out, `"mac2":"60B7B5B7"`)
	assert.Contains(t, out, fmt.Sprintf("it is entry %d of ", index))
	require.Zero(t, s.terminate())

	text, err := os.ReadFile(proof)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(proof, []byte(strings.Replace(string(text), "index ", "index 1", 1)), 0o600))
	status, _ = run(t, check)
	assert.Equal(t, 1, status)
}

// Each damage ends the verifier with 1, and is named.
func TestAnAuditorFindsDamage(t *testing.T) {
	h := newHome(t)
	folder := tiles.Folder(h.path("audit"))
	verify := []string{"audit", "verify", h.path("audit"), "--key", h.path("audit.pub")}
	old := h.read("audit/checkpoint")
	s := serveChild(h, h.path("pursekeeper.yaml"))
	index := s.load()
	s.sealed(index)
	require.Zero(t, s.terminate())
	saved := filepath.Join(t.TempDir(), "saved")
	require.NoError(t, os.WriteFile(saved, []byte(h.read("audit/checkpoint")), 0o600))

	var size int
	_, err := fmt.Sscanf(strings.Split(h.read("audit/checkpoint"), "\n")[1], "%d", &size)
	require.NoError(t, err)
	name := filepath.Join("audit", tiles.Bundle(0, size).Path())
	bundle := h.read(name)
	require.Contains(t, bundle, "60B7B5B7")
	h.write(name, strings.Replace(bundle, "60B7B5B7", "60B7B5B8", 1))
	status, out := run(t, verify)
	assert.Equal(t, 1, status, out)
	assert.Contains(t, out, fmt.Sprintf("entry %d is not the one that was sealed", index))
	assert.Contains(t, out, "the log does not hold")
	assert.NotContains(t, out, "held  ")
	status, out = run(t, append(verify, "--json"))
	assert.Equal(t, 1, status)
	var report struct{ Findings []struct{ Kind string } }
	require.NoError(t, json.NewDecoder(strings.NewReader(out)).Decode(&report))
	assert.Equal(t, "changed", report.Findings[0].Kind)

	// The signer itself does not go on from such a log, and says so.
	s = serveChild(h, h.path("pursekeeper.yaml"))
	eventually(t, "the alarm", func() bool {
		_, body := s.ask("/metrics")
		return strings.Contains(body, `pursekeeper_alarms_total{event="SealingRefused"} 1`)
	})
	assert.EqualValues(t, 1, s.metric("audit_sealing_failed"))
	assert.NotZero(t, s.metric("audit_unsealed_entries"))
	require.Zero(t, s.terminate())
	h.write(name, bundle)

	require.NoError(t, folder.PublishCheckpoint(old))
	status, out = run(t, verify)
	assert.Zero(t, status, "an old checkpoint is whole in itself")
	assert.Contains(t, out, "NOT CHECKED  that the tail was not cut")
	status, out = run(t, append(verify, "--checkpoint", saved))
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "cut-or-old")
}

const mechanismInvalid = 0x70 // CKR_MECHANISM_INVALID

// A development token without Ed25519: the checkpoints are signed in software, and the log, and the record itself, say so. On
// another token's key the log does not go on.
func TestCheckpointsInSoftware(t *testing.T) {
	h := newHome(t)
	token, control := hsmtest.NewFaultToken(t)
	control.Set(hsmtest.Fault{Function: "C_SignInit", Code: mechanismInvalid})
	config := h.config("serve.yaml", behindFaults(token), aside(t), edit{`audit: .*`, "audit: {directory: soft}"})
	s := serveChild(h, config, withEnv(token.Env()...))
	index := s.load()
	s.sealed(index)
	require.Zero(t, s.terminate())
	assert.Contains(t, s.out.String(), "signed in software, for development alone")
	info, err := os.Stat(h.path("soft.key"))
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, info.Mode().Perm())
	status, out := run(t, []string{"audit", "verify", h.path("soft"), "--key", h.path("soft.pub")})
	assert.Zero(t, status, out)
	entries, err := os.ReadFile(filepath.Join(h.path("soft"), tiles.Bundle(0, int(index)+1).Path()))
	require.NoError(t, err)
	assert.Contains(t, string(entries), `"event":"CheckpointKey","outcome":"SOFTWARE","detail":"`+strings.TrimSpace(h.read("soft.pub")))
	rulesKept(t, control)

	// The token's own key does not take over the log.
	s = serveChild(h, h.config("again.yaml", edit{`audit: .*`, "audit: {directory: soft}"}))
	eventually(t, "the refusal", func() bool { return s.metric("audit_sealing_failed") == 1 })
	require.Zero(t, s.terminate())
	assert.Contains(t, s.out.String(), "the log's key was lost, or exchanged")
}

// The record is searched and exported from the sealed log alone, and an entry that is not the sealed one stops it.
func TestAnAuditorSearches(t *testing.T) {
	h := newHome(t)
	s := serveChild(h, h.path("pursekeeper.yaml"))
	index := s.load()
	s.sealed(index)
	require.Zero(t, s.terminate())
	read := func(arguments ...string) string {
		t.Helper()
		status, out := run(t, append(append([]string{"audit"}, arguments...), "--dir", h.path("audit")))
		require.Zero(t, status, out)
		return out
	}
	line := fmt.Sprintf(`(?m)^ +%d  \S+Z  AuthorizeLoad +APPROVED +demo/3105228000001117/EP/LOAD/0007/A1B2C3D4  1\.00 yuan  terminal 112233445566  by platform$`, index)
	all := read("list")
	assert.Regexp(t, line, all)
	assert.Regexp(t, `(?m)^ +0  \S+Z  Started +OK`, all)
	for _, filter := range [][]string{{"--card", "1117"}, {"--operation", "AuthorizeLoad"}, {"--outcome", "approved"}, {"--with-key", "demo/load", "--client", "platform"},
		{"--terminal", "112233445566"}, {"--set", "demo", "--from", fmt.Sprint(index)}, {"--since", "2020-01-01T00:00:00Z", "--outcome", "APPROVED"}} {
		found := read(append([]string{"list"}, filter...)...)
		assert.Regexp(t, line, found, filter)
		assert.Equal(t, 1, strings.Count(found, "\n"), filter)
	}
	assert.Empty(t, read("list", "--until", "2020-01-01T00:00:00Z"))
	assert.Equal(t, 2, strings.Count(read("list", "--limit", "2"), "\n"))
	assert.Contains(t, read("show", fmt.Sprint(index)), `"mac2": "60B7B5B7"`)
	page := read("show", "--card", "1117", "--set", "demo")
	assert.True(t, strings.HasPrefix(page, "card 3105228000001117 of key set demo\n"), page)
	assert.Regexp(t, line, page)
	var exported struct {
		Index uint64
		Entry struct{ Card, MAC2 string }
	}
	require.NoError(t, json.Unmarshal([]byte(read("export", "--card", "1117")), &exported))
	assert.Equal(t, index, exported.Index)
	assert.Equal(t, "60B7B5B7", exported.Entry.MAC2)
	rows, err := csv.NewReader(strings.NewReader(read("export", "--format", "csv", "--card", "1117"))).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 2)
	assert.Equal(t, csvColumns, rows[0])
	assert.Equal(t, fmt.Sprint(index), rows[1][0])

	for _, c := range [][]string{{"show"}, {"show", "999"}, {"show", "--card", "0000"}, {"show", "0", "--card", "1117"}} {
		status, out := run(t, append(append([]string{"audit"}, c...), "--dir", h.path("audit")))
		assert.Equal(t, 1, status, out)
	}
	name := filepath.Join("audit", tiles.Bundle(0, int(index)+1).Path())
	h.write(name, strings.Replace(h.read(name), "60B7B5B7", "60B7B5B8", 1))
	status, out := run(t, []string{"audit", "list", "--dir", h.path("audit")})
	assert.Equal(t, 1, status)
	assert.Contains(t, out, fmt.Sprintf("entry %d is not the one that was sealed", index))
}

// What a client wrote moves no cursor, and no spreadsheet computes it.
func TestWhatIsExportedIsText(t *testing.T) {
	assert.Equal(t, "a?[2Jb 卡", printable("a\x1b[2Jb 卡"))
	row := csvRow(7, audit.Entry{Time: time.Unix(0, 0).UTC(), Event: "UnlockCard", Outcome: "OK", Detail: `=cmd|'/C calc'!A0`, Client: "-platform"})
	assert.Equal(t, `'=cmd|'/C calc'!A0`, row[len(row)-1])
	assert.Equal(t, "'-platform", row[4])
	assert.Equal(t, "7", row[0])
}
