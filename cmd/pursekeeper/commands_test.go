package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
)

// temporary gives the program a folder for its own folders, in which it must leave nothing.
func temporary(t *testing.T) setting {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		assert.NoError(t, err)
		assert.Empty(t, left)
	})
	return withEnv("TMPDIR="+dir, "SOFTHSM2_CONF=")
}

func TestDemo(t *testing.T) {
	status, out := run(t, []string{"demo"}, temporary(t), inFolder(t.TempDir()))
	require.Zero(t, status, out)
	for _, want := range []string{
		`AuthorizeLoad +APPROVED +MAC2 60B7B5B7 +key demo/load/1 kcv 26C9F7, TOKEN`,
		`AuthorizeLoad +APPROVED +MAC2 1FF2DC09 +key demo-sm4/load/1 kcv 08802E, PROCESS`,
		`CREDIT FOR LOAD +80 52 00 00 0B +20240131 235959 60B7B5B7 +04`,
		`ConfirmLoad +VERIFIED +demo/3105228000001117/EP/LOAD/0007/A1B2C3D4`,
		`AuthorizeLoad +MAC_MISMATCH`,
		`NOT_APPLIED +demo/3105228000001117/EP/LOAD/000A/6EB88B73, by sibling`,
		`NOT_APPLIED +demo-sm4/3105228000001117/EP/LOAD/000B/DBE5882E, by settlement`,
		`BeginPurchase +APPROVED +TSN 00000001 +MAC1 16CFECA0 +key demo/purchase/1 kcv 2CC29E, TOKEN`,
		`CompletePurchase +VERIFIED +demo/3105228000001117/EP/PURCHASE/0000/32C1BFC5`,
		`ConfirmUnload +VERIFIED +demo-sm4/3105228000001117/ED/UNLOAD/0003/25454ADD`,
		`ConfirmOverdraft +VERIFIED +demo-sm4/3105228000001117/ED/OVERDRAFT/0004/0CD87274`,
		`APPLICATION BLOCK +84 1E 00 00 04 .*\n.*SW 9000\n.*GET BALANCE .*\n.*SW 6A81\n`,
		`APPLICATION UNBLOCK +84 18 00 00 04 .*\n.*SW 9000\n.*GET BALANCE .*\n.*0000047E +SW 9000\n`,
		`SW 63C0\n.*VERIFY .*\n.*SW 6983\n(.*\n){3}.*PIN UNBLOCK .*\n.*SW 9000\n.*VERIFY .*\n.*SW 9000\n`,
		`VerifyTacs +6 items: 5 verified, 1 mismatched, 0 failed`,
		`forged purchase 0000 +TAC_MISMATCH +TAC 7FC21AF5 +key demo/tac/1 kcv 8DD394, CARD\n +purchase 0000 +VERIFIED +TAC 7FC21AF5`,
		`forged purchase 0000 +TAC_MISMATCH +TAC AA63EF46 +key demo-sm4/tac/1 kcv FA14E6, PROCESS`,
		`(?m)^ +0 +Started +OK$`,
		`(?m)^ +\d+ +KeyExposure +EXTRACTABLE_BY_PIN_HOLDER +demo/load/1$`,
		`(?m)^ +\d+ +AuthorizeLoad +platform +APPROVED +demo/3105228000001117/EP/LOAD/0007/A1B2C3D4$`,
		`(?m)^ +\d+ +SettleLoad +platform +VERIFIED .*\n +NOT_APPLIED +demo/3105228000001117/EP/LOAD/000B/DBE5882E$`,
		`(?m)^ +\d+ +SignCommand +platform +APPROVED +demo-sm4/pin-unblock/1  PIN UNBLOCK$`,
		`(?m)^ +\d+ +VerifyTacs +platform +OK +6 TACs: 5 verified, 1 mismatched, 0 failed\n +\d+ +VerifyTacs +platform +TAC_MISMATCH +demo/tac/1  item 4$`,
	} {
		assert.Regexp(t, regexp.MustCompile(want), out)
	}
	assert.Equal(t, 8, strings.Count(out, "NOT_APPLIED"), "two of each card, as told and as recorded")
	assert.Equal(t, 2, strings.Count(out, "forged purchase"), "one in each batch")
	assert.NotContains(t, out, string(demoMasters[4]))
	assert.NotContains(t, out, storyPIN, "no trace has a PIN in it")
}

func TestBenchLoad(t *testing.T) {
	status, out := run(t, []string{"bench", "load", "--for", "200ms", "--json", "--callers", "16"}, temporary(t))
	require.Zero(t, status, out)
	var f loadFigures
	require.NoError(t, json.Unmarshal([]byte(out), &f), out)
	assert.Equal(t, 16, f.Callers)
	assert.Equal(t, 5, f.Rounds)
	assert.Positive(t, f.BareLoopThreads)
	assert.Positive(t, f.LoadsPerCommit)
	for name, m := range map[string]figures{"in process": f.InProcess, "unsealed": f.Unsealed, "mTLS": f.MTLS, "Transact": f.Stream} {
		assert.Positive(t, m.PerSecond, name)
		assert.InDelta(t, m.PerSecond/f.BareLoopPerSecond, m.Ratio, 1e-9, name)
		assert.Positive(t, m.P50Millis, name)
		assert.GreaterOrEqual(t, m.P99Millis, m.P50Millis, name)
		assert.Positive(t, m.CPUMicros, name)
	}
}

func TestBenchLoadForPeople(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "cpu")
	dir := t.TempDir()
	status, out := run(t, []string{"bench", "load", "--for", "50ms", "--callers", "4", "--profile", profile, "--dir", dir})
	require.Zero(t, status, out)
	assert.Regexp(t, `bare PKCS#11 loop, \d threads +\d+ +1\.00`, out)
	assert.Regexp(t, `AuthorizeLoad over mTLS, unary +\d+ +\d\.\d\d +\d+\.\d\d +\d+\.\d\d`, out)
	info, err := os.Stat(profile)
	require.NoError(t, err)
	assert.Positive(t, info.Size())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// Wrong MAC1s lock a card; an officer lifts the lock, and nobody else.
func TestCardUnlock(t *testing.T) {
	h := newHome(t)
	s := serveChild(h, h.config("serve.yaml", edit{`timeZone: Asia/Shanghai`, "timeZone: Asia/Shanghai\n    mac1FailureLimit: 3"}))
	on := &platform{}
	on.use(s)
	w := newWallet(t, on, "demo", 1)
	ask := func(a attempt) v1.Outcome {
		t.Helper()
		answer, err := w.authorize(t.Context(), a)
		require.NoError(t, err)
		return answer.Outcome
	}
	wrong := w.initialize()
	flipped, err := flipLastBit(wrong.init)
	require.NoError(t, err)
	wrong.request.InitializeResponse = flipped
	for range 3 {
		assert.Equal(t, v1.Outcome_OUTCOME_MAC_MISMATCH, ask(wrong))
	}
	assert.Equal(t, v1.Outcome_OUTCOME_CARD_LOCKED, ask(wrong))
	right := w.initialize()
	assert.Equal(t, v1.Outcome_OUTCOME_CARD_LOCKED, ask(right), "a right MAC1 does not open a locked card")

	unlock := func(arguments ...string) (int, string) {
		t.Helper()
		return run(t, append([]string{"card", "unlock", "--server", "https://" + s.public, "--tls", h.path("tls"), "--set", "demo",
			"--serial", w.serial}, arguments...))
	}
	for _, as := range []string{"platform", "reader", "auditor"} {
		status, out := unlock("--as", as, "--reason", "because")
		assert.Equal(t, 1, status)
		assert.Contains(t, out, "permission_denied")
		assert.Equal(t, v1.Outcome_OUTCOME_CARD_LOCKED, ask(right))
	}
	status, out := unlock()
	assert.NotZero(t, status)
	assert.Contains(t, out, "missing flags: --reason")
	status, out = unlock("--reason", "")
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "reason")
	assert.Equal(t, v1.Outcome_OUTCOME_CARD_LOCKED, ask(right))

	status, out = unlock("--reason", "the reader was broken")
	assert.Zero(t, status, out)
	assert.Regexp(t, `^card `+w.serial+` of demo is unlocked \(audit index \d+\)\n$`, out)
	assert.Equal(t, v1.Outcome_OUTCOME_APPROVED, ask(right))
	status, out = unlock("--reason", "once more")
	assert.Zero(t, status)
	assert.Contains(t, out, "was not locked")
	assert.Equal(t, 1.0, s.metric(`alarms_total\{event="CardLocked"\}`))
	assert.Zero(t, s.terminate())
}

// What is not understood ends the program with the usage, and nothing is made.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		message   string
	}{
		{nil, "expected one of"},
		{[]string{"sreve"}, "unexpected argument sreve"},
		{[]string{"dev", "--lissten", "x"}, "unknown flag --lissten"},
		{[]string{"dev", "now"}, "unexpected argument now"},
		{[]string{"dev", "--test-keys", "nowhere.json"}, "nowhere.json"},
		{[]string{"serve"}, "missing flags: --config"},
		{[]string{"serve", "--config", "x", "--pin", "1234"}, "unknown flag --pin"},
		{[]string{"bench", "load", "--for", "soon"}, "--for"},
		{[]string{"bench", "load", "--for", "0s"}, "--for: 0s, expected at least 1ms"},
		{[]string{"bench", "load", "--callers", "0"}, "--callers: 0, expected at least 1"},
		{[]string{"bench", "tacs", "--count", "0"}, "--count: 0, expected at least 1"},
		{[]string{"bench", "tacs", "--count", "5", "--forge", "6"}, "--forge: 6, expected 0 to --count"},
		{[]string{"bench", "tacs", "--cards=-1"}, "--cards: -1, expected at least 0"},
		{[]string{"bench", "tacs", "--algorithm", "DES"}, "--algorithm"},
		{[]string{"card"}, "expected"},
		{[]string{"card", "unlock"}, "missing flags"},
		{[]string{"card", "load"}, `expected "<amount>"`},
		{[]string{"card", "load", "-1"}, "unknown flag -1"},
		{[]string{"card", "load", "4294967296"}, "<amount>"},
		{[]string{"card", "load", "1", "--purse", "EX"}, `--purse must be one of "EP","ED"`},
		{[]string{"card", "load", "1", "--tear", "0"}, `"0", expected a step from 1, or "last"`},
		{[]string{"card", "authenticate", "me"}, `must be one of "both","host","card"`},
		{[]string{"card", "update"}, "expected one of"},
		{[]string{"vectors", "replay", "--target", "moon"}, "--target"},
	} {
		dir := t.TempDir()
		status, out := run(t, c.arguments, inFolder(dir))
		assert.NotZero(t, status, c.arguments)
		assert.Contains(t, out, c.message, c.arguments)
		assert.Contains(t, out, "Usage: pursekeeper", c.arguments)
		made, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, made)
	}
	status, out := run(t, []string{"--help"})
	assert.Zero(t, status)
	for _, command := range []string{"dev", "serve", "demo", "vectors replay", "bench load", "bench tacs", "card unlock"} {
		assert.Contains(t, out, "\n  "+command)
	}
}

func TestClientCommandsNameWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	arguments := []string{"card", "unlock", "--tls", dir, "--set", "demo", "--serial", "1", "--reason", "x"}
	status, out := run(t, arguments)
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "client certificate: ")
	assert.Contains(t, out, "officer.crt")
	h := newHome(t)
	arguments[3] = h.path("tls")
	status, out = run(t, append(arguments, "--server", "https://"+busyPort(t)+"0"))
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "pursekeeper: ")
}
