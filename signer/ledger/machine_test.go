package ledger_test

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

func sorted(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }

// The machine: cards, a client, a thief, lost messages, power cuts and restarts against the real signer on a real
// database. No script may break an invariant, nor get an outcome that DESIGN, §3 does not document.
//
// PURSEKEEPER_MACHINE_SECONDS makes the search longer than the few seconds that it takes here; `-rapid.seed` repeats one.
func TestNoScriptBreaksAnInvariant(t *testing.T) {
	seconds := 6
	if text := os.Getenv("PURSEKEEPER_MACHINE_SECONDS"); text != "" {
		var err error
		seconds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	w := newWorld(t, ledger.Ledger{})
	steps := 0
	for until := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(until); {
		rapid.Check(t, func(t *rapid.T) {
			if time.Now().After(until) {
				return
			}
			n, found := newPlay(w, true).run(scripts(40, false).Draw(t, "script"))
			steps += n
			if found != nil {
				t.Fatalf("after %d steps: %v", n, found)
			}
		})
	}
	t.Logf("%d steps", steps)
	require.Greater(t, steps, 500, "too few steps to mean anything")
}
