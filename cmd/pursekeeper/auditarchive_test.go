package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/store"
)

// longRecord is a served signer with a story and some bundles of entries after it, all sealed.
func longRecord(t *testing.T) (h home, s *served, last uint64) {
	t.Helper()
	h = newHome(t)
	s = serveChild(h, h.path("pursekeeper.yaml"))
	s.stories()
	for card := range 1100 {
		last = s.strange(2000 + card)
	}
	s.sealed(last)
	return h, s, last
}

// kept is how many entries the database has before an index, as another process sees it.
func (h home) kept(before uint64) (n int) {
	h.t.Helper()
	database, err := store.OpenSQLite(context.Background(), h.path("state.db"))
	require.NoError(h.t, err)
	defer func() { require.NoError(h.t, database.Close()) }()
	require.NoError(h.t, database.Entries(context.Background(), 0, func(index uint64, _ []byte) bool {
		if index < before {
			n++
		}
		return index < before
	}))
	return n
}

// Entries leave the database of a running signer; list, show, export, prove and replay go on over both places, a signer that
// starts anew seals on, and what was loaded before can still be confirmed and compared.
func TestRetention(t *testing.T) {
	h, s, last := longRecord(t)
	to := fmt.Sprint(last + 1)
	saved, archived := filepath.Join(t.TempDir(), "saved"), filepath.Join(t.TempDir(), "archive")
	require.NoError(t, os.WriteFile(saved, []byte(h.read("audit/checkpoint")), 0o600))
	ask := func(arguments ...string) string {
		t.Helper()
		status, out := run(t, append([]string{"audit"}, arguments...))
		require.Zero(t, status, out)
		return out
	}
	over := func() (all []string) {
		t.Helper()
		proof := filepath.Join(t.TempDir(), "proof")
		ask("prove", "15", "--dir", h.path("audit"), "--out", proof)
		_, replayed := s.replays("--to", to)
		return []string{
			ask("list", "--dir", h.path("audit"), "--set", "demo", "--limit", "1000"), ask("show", "15", "--dir", h.path("audit")),
			ask("export", "--dir", h.path("audit"), "--card", "1117"), ask("check-proof", proof, "--key", h.path("audit.pub"))[:200], replayed,
		}
	}
	before := over()
	prune := func(before string) []string {
		return []string{"audit", "prune", "--config", h.path("pursekeeper.yaml"), "--before", before, "--archive", archived, "--checkpoint", saved}
	}
	assert.Contains(t, ask("archive", "--dir", h.path("audit"), "--to", archived), "and verifies")
	status, out := run(t, prune("600"))
	require.Zero(t, status, out)
	assert.Contains(t, out, "pruned       512 entries left the database, which has those from 512 on")
	assert.Zero(t, h.kept(512))
	assert.Equal(t, before, over())

	require.Zero(t, s.terminate())
	s = serveChild(h, h.path("pursekeeper.yaml"))
	again := s.strange(9000)
	s.sealed(again)
	assert.Zero(t, s.metric("audit_sealing_failed"))
	assert.Equal(t, before, over())
	page := ask("list", "--dir", h.path("audit"), "--operation", "Pruned")
	assert.Regexp(t, `PRUNED`, page)
	status, out = run(t, prune(time.Now().Add(time.Hour).Format(time.RFC3339)))
	require.Zero(t, status, out)
	assert.Equal(t, before, over())
	status, _ = run(t, prune("soon"))
	assert.NotZero(t, status)
	require.Zero(t, s.terminate())
}

// traffic asks for loads, one after another, until stop is called, which returns what went wrong; it may be called again.
func (s *served) traffic() (stop func() error) {
	s.t.Helper()
	client := s.client("platform")
	quit, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for card := 7000; ; card++ {
			select {
			case <-quit:
				ended <- nil
				return
			default:
			}
			if _, err := client.AuthorizeLoad(context.Background(), strangeLoad(card)); err != nil {
				ended <- err
				return
			}
		}
	}()
	return sync.OnceValue(func() error {
		close(quit)
		return <-ended
	})
}

// A prune that is killed anywhere leaves the record whole, and the same command ends it, while the signer goes on signing.
func TestPruneIsKilled(t *testing.T) {
	h, s, last := longRecord(t)
	to := fmt.Sprint(last + 1)
	status, before := s.replays("--to", to)
	require.Zero(t, status, before)
	saved, archived := filepath.Join(t.TempDir(), "saved"), filepath.Join(t.TempDir(), "archive")
	require.NoError(t, os.WriteFile(saved, []byte(h.read("audit/checkpoint")), 0o600))
	status, out := run(t, []string{"audit", "archive", "--dir", h.path("audit"), "--to", archived})
	require.Zero(t, status, out)
	prune := []string{"audit", "prune", "--config", h.path("pursekeeper.yaml"), "--archive", archived, "--checkpoint", saved, "--before"}
	stop := s.traffic()
	defer func() { require.NoError(t, stop()) }()
	began := time.Now()
	status, out = run(t, append(prune, "256"))
	require.Zero(t, status, out)
	whole := time.Since(began)
	for i := range 6 {
		p := start(t, append(prune, to))
		time.Sleep(whole * time.Duration(i) / 5) // where the kill falls is left to chance: nothing waits for it
		p.kill()
		s.strange(5000 + i)
		status, after := s.replays("--to", to)
		require.Zero(t, status, after)
		require.Equal(t, before, after)
	}
	status, out = run(t, append(prune, to))
	require.Zero(t, status, out)
	end := strings.Fields(out[strings.Index(out, "those from ")+len("those from "):])[0]
	assert.Equal(t, fmt.Sprint((last+1)/256*256-512), end)
	var index uint64
	_, err := fmt.Sscan(end, &index)
	require.NoError(t, err)
	assert.Zero(t, h.kept(index))
	status, after := s.replays("--to", to)
	require.Zero(t, status)
	assert.Equal(t, before, after)
	require.NoError(t, stop())
	require.Zero(t, s.terminate())
	status, out = run(t, []string{"audit", "verify", h.path("audit"), "--key", h.path("audit.pub"), "--checkpoint", saved})
	require.Zero(t, status, out)
}
