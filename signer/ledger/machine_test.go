package ledger_test

import (
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

func sorted(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }

// The machine: cards, a client, a thief, lost messages, power cuts and restarts against the real signer on a real
// database. No script may break an invariant, nor get an outcome that DESIGN, §3 does not document.
//
// PURSEKEEPER_MACHINE_ROUNDS makes the search longer than the one round of 100 scripts here; `-rapid.seed` repeats one.
func TestNoScriptBreaksAnInvariant(t *testing.T) { noScript(t, newWorld(t, ledger.Ledger{})) }

func TestNoScriptBreaksAnInvariantOnPostgres(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	noScript(t, newWorldOn(t, ledger.Ledger{}, func() (*store.Database, error) {
		return store.OpenPostgres(context.Background(), store.Postgres{URL: url})
	}))
}

func noScript(t *testing.T, w *world) {
	rounds := 1
	if text := os.Getenv("PURSEKEEPER_MACHINE_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	steps := 0
	for range rounds {
		rapid.Check(t, func(t *rapid.T) {
			n, found := newPlay(w, true).run(scripts(30, false).Draw(t, "script"))
			steps += n
			if found != nil {
				t.Fatalf("after %d steps: %v", n, found)
			}
		})
	}
	t.Logf("%d steps, %d audit entries", steps, w.audited)
	require.Greater(t, steps, 1000, "too few steps to mean anything")
}
