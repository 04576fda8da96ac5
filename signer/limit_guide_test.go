package signer

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// The limits of the guide refuse and alarm in the words of the guide.
func TestTheGuideOfLimits(t *testing.T) {
	guide, err := os.ReadFile("../docs/limits.md")
	require.NoError(t, err)
	_, document, ok := strings.Cut(string(guide), "```yaml\n")
	require.True(t, ok)
	document, _, ok = strings.Cut(document, "```\n")
	require.True(t, ok)
	example, err := os.ReadFile("../policy/testdata/limits.yaml")
	require.NoError(t, err)
	assert.Equal(t, string(example), document)

	here := strings.ReplaceAll(strings.ReplaceAll(document, "gd-purse", "demo"), "[gd]", "[platform]")
	w := newWallet(t, under(t, here))
	w.clock = time.Date(2024, 1, 31, 15, 30, 0, 0, time.UTC)
	ask := func(w *wallet, fen uint64) Authorization {
		return w.authorise(w.initialise(purse.Fen(fen), testTerminal), func(r *LoadRequest) { r.AmountFen = fen })
	}
	said := func(a Authorization) { t.Helper(); assert.Contains(t, string(guide), "`"+a.Detail+"`") }
	said(ask(w, 100001))
	said(ask(w, 99500))
	rich := w.wallet(t, "3105228000002222", softcard.Account{Balance: 0, Online: 7})
	for i := range 2 {
		s := ask(rich, 90000)
		require.NotEmpty(t, s.MAC2, s.Detail)
		rich.credit(s)
		// Its owner spends all.
		rich = w.wallet(t, rich.serial, softcard.Account{Balance: 0, Online: purse.Counter(8 + i)})
	}
	said(ask(rich, 90000))
	for _, e := range w.entries(t) {
		if e.Event == audit.LimitAlarm {
			assert.Contains(t, string(guide), "`"+e.Detail+"`")
		}
	}
	assert.Equal(t, []audit.Event{audit.LimitAlarm}, w.alarms(t))
	often := w.wallet(t, "3105228000003333", softcard.Account{Balance: 0, Online: 7})
	for range 5 {
		often.load()
	}
	said(often.authorise(often.offer()))
	assert.Equal(t, int64(20), policyOf(t, here).Signals().Of(policy.MAC1Failures, policy.PerTerminal).AlarmCount)
}

func policyOf(t *testing.T, limits string) *policy.Policy { t.Helper(); return limitedRules(t, limits) }
