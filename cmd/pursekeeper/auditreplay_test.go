package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/store"
)

// replays runs audit replay against the signer.
func (s *served) replays(arguments ...string) (status int, out string) {
	s.t.Helper()
	return run(s.t, append([]string{"audit", "replay", "-q", "--server", "https://" + s.public, "--tls", s.home.path("tls")}, arguments...))
}

// stories has two cards live through every scene of the demonstration, and the bureau and an officer do what they do.
func (s *served) stories() {
	s.t.Helper()
	on, err := connectServices("https://"+s.public, s.home.path("tls"))
	require.NoError(s.t, err)
	for _, set := range []string{"demo", "demo-sm4"} {
		require.NoError(s.t, tellCard(s.t.Context(), io.Discard, on, set))
	}
	internal := func(cryptogram string) *v1.AuthenticateCardRequest {
		return &v1.AuthenticateCardRequest{KeySet: "demo", CardSerial: storySerial, Direction: v1.Direction_DIRECTION_INTERNAL,
			Challenge: "0102030405060708", Cryptogram: cryptogram}
	}
	for _, r := range []*v1.AuthenticateCardRequest{
		internal("0000000000000000"),
		{KeySet: "demo", CardSerial: storySerial, Direction: v1.Direction_DIRECTION_EXTERNAL, Challenge: "A1B2C3D4"},
	} {
		_, err := s.client("platform").AuthenticateCard(s.t.Context(), r)
		require.NoError(s.t, err)
	}
	s.sealed(s.strange(1118))
}

// strange is a load of a card with a number of its own, whose MAC1 is wrong. It returns the index of its entry.
func (s *served) strange(card int) uint64 {
	s.t.Helper()
	answer, err := s.platform().AuthorizeLoad(s.t.Context(), strangeLoad(card))
	require.NoError(s.t, err)
	require.Equal(s.t, v1.Outcome_OUTCOME_MAC_MISMATCH, answer.Outcome)
	return answer.AuditIndex
}

func strangeLoad(card int) *v1.AuthorizeLoadRequest {
	return &v1.AuthorizeLoadRequest{
		KeySet: "demo", CardSerial: fmt.Sprintf("310522800000%d", card), Purse: v1.Purse_PURSE_EP, AmountFen: storyAmount, TerminalId: storyTerminal,
		InitializeResponse: "000003E8 0007 01 00 A1B2C3D4 7E1722D0", Date: storyDate, Time: storyTime,
	}
}

// platform is one client for many requests.
func (s *served) platform() pursekeeperv1connect.SignerServiceClient {
	if s.many == nil {
		s.many = s.client("platform")
	}
	return s.many
}

// doctor changes an entry in the database file, as somebody would who has the file and not the keys, and returns its index.
func (h home) doctor(event, outcome, old, new string) (index uint64) {
	h.t.Helper()
	db, err := sql.Open("sqlite", "file:"+h.path("state.db"))
	require.NoError(h.t, err)
	defer func() { require.NoError(h.t, db.Close()) }()
	row := db.QueryRow(`SELECT idx FROM audit_entries WHERE entry LIKE '%"event":"'||?||'"%"outcome":"'||?||'"%' AND instr(entry, ?) > 0 ORDER BY idx LIMIT 1`, event, outcome, old)
	require.NoError(h.t, row.Scan(&index), "%s %s %s", event, outcome, old)
	_, err = db.Exec(`UPDATE audit_entries SET entry = replace(entry, ?, ?) WHERE idx = ?`, old, new, index)
	require.NoError(h.t, err)
	return index
}

// forge adds a changed copy of an entry to the record, as a signer that records wrongly would, and returns its index.
func (h home) forge(event, outcome string, change func(*audit.Entry)) (index uint64) {
	h.t.Helper()
	database, err := store.OpenSQLite(h.t.Context(), h.path("state.db"))
	require.NoError(h.t, err)
	defer func() { require.NoError(h.t, database.Close()) }()
	var forged audit.Entry
	require.NoError(h.t, database.Entries(h.t.Context(), 0, func(_ uint64, line []byte) bool {
		e, err := audit.Decode(line)
		require.NoError(h.t, err)
		if string(e.Event) != event || e.Outcome != outcome {
			return true
		}
		forged = e
		return false
	}))
	change(&forged)
	forged.Time = time.Now()
	require.NoError(h.t, database.Commit(h.t.Context(), store.Change{Decide: func(_ *store.Purse, at uint64) ([]audit.Entry, error) {
		index = at
		return []audit.Entry{forged}, nil
	}}))
	return index
}

// The whole record of a signer on SoftHSM replays with nothing different, over what the database has; and every entry that somebody
// changes in the database is named.
func TestAnAuditorReplays(t *testing.T) {
	h := newHome(t)
	s := serveChild(h, h.path("pursekeeper.yaml"))
	s.stories()
	status, out := s.replays()
	require.Zero(t, status, out)
	assert.Contains(t, out, "different        0 entries\n")
	assert.Regexp(t, `(?m)^equal +4\d entries$`, out)
	assert.Contains(t, out, "the command carries a PIN, which is not recorded\n")
	assert.Contains(t, out, "of a batch the verified items are in its digest alone\n")
	assert.NotContains(t, out, "key gone")

	for _, other := range []string{"platform", "officer", "reader", "personaliser"} {
		status, out = s.replays("--as", other)
		assert.Equal(t, 1, status)
		assert.Contains(t, out, "role "+other+" may not Replay")
	}
	// What was recorded wrong, and sealed, is named with what differs.
	forged := h.forge("AuthorizeLoad", "APPROVED", func(e *audit.Entry) { e.MAC2 = "00000000" })
	s.sealed(forged)
	status, out = s.replays("--from", fmt.Sprint(forged), "--to", fmt.Sprint(forged+1))
	assert.Equal(t, 1, status)
	assert.Contains(t, out, fmt.Sprintf("DIFFERENT        entry %d: AuthorizeLoad is recorded as APPROVED, demo/3105228000001117/EP/LOAD/0007/A1B2C3D4: MAC2 differs\n", forged))
	assert.NotContains(t, out, "60B7B5B7")
	status, out = s.replays("--to", "2000-01-01T00:00:00Z")
	require.Zero(t, status, out)
	assert.Contains(t, out, "no MAC           0 entries")
	for _, wrong := range [][]string{{"--from", "yesterday"}, {"--from", "-1"}, {"--to", "3", "--from", "5"}} {
		status, _ = s.replays(wrong...)
		assert.NotZero(t, status, wrong)
	}
	require.Zero(t, s.terminate())

	want := map[uint64]string{}
	for _, d := range []struct{ event, outcome, old, new string }{
		{"AuthorizeLoad", "APPROVED", `"mac2":"60B7B5B7"`, `"mac2":"60B7B5B8"`},
		{"AuthorizeUnload", "APPROVED", `"amountFen":`, `"amountFen":1`},
		{"AuthorizeLoad", "MAC_MISMATCH", `"outcome":"MAC_MISMATCH"`, `"outcome":"APPROVED","mac2":"00000000"`},
		{"ConfirmLoad", "VERIFIED", `"version":1`, `"version":2`},
	} {
		want[h.doctor(d.event, d.outcome, d.old, d.new)] = d.event
	}
	require.Len(t, want, 4)
	s = serveChild(h, h.path("pursekeeper.yaml"))
	status, out = s.replays()
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "the record differs from the keys")
	for index := range want {
		assert.Contains(t, out, fmt.Sprintf("DIFFERENT        entry %d: it is not the entry that was sealed\n", index))
	}
	assert.NotContains(t, out, "60B7B5B7", "it answers no MAC")
	require.Zero(t, s.terminate())
}

// A replay that is killed goes on where it was, and counts nothing twice.
func TestAReplayIsKilledAndGoesOn(t *testing.T) {
	h := newHome(t)
	s := serveChild(h, h.path("pursekeeper.yaml"))
	s.stories()
	var last uint64
	for card := range 120 {
		last = s.strange(1200 + card)
	}
	s.sealed(last)
	to := fmt.Sprint(last + 1)
	status, whole := s.replays("--to", to)
	require.Zero(t, status, whole)

	state := filepath.Join(t.TempDir(), "state")
	kills := 0
	for {
		p := start(t, []string{"audit", "replay", "-q", "--server", "https://" + s.public, "--tls", h.path("tls"), "--to", to, "--state", state, "--rate", "100", "--part", "16"})
		before := fileTime(state)
		for p.running() && fileTime(state).Equal(before) {
			time.Sleep(time.Millisecond)
		}
		p.kill()
		text, err := os.ReadFile(state)
		require.NoError(t, err)
		var at replayState
		require.NoError(t, json.Unmarshal(text, &at))
		if at.Done {
			break
		}
		kills++
	}
	assert.Greater(t, kills, 2)
	status, out := s.replays("--to", to, "--state", state, "--rate", "100", "--part", "16")
	require.Zero(t, status, out)
	assert.Equal(t, whole, out)

	for name, change := range map[string]func(string) string{
		"another replay":    func(text string) string { return strings.Replace(text, `"to":"`, `"to":"1`, 1) },
		"an unknown field":  func(text string) string { return strings.Replace(text, `{"server"`, `{"x":1,"server"`, 1) },
		"something behind":  func(text string) string { return text + "{}" },
		"not a state":       func(string) string { return "{}" },
		"a state cut short": func(text string) string { return text[:len(text)/2] },
	} {
		text, err := os.ReadFile(state)
		require.NoError(t, err)
		changed := filepath.Join(t.TempDir(), "state")
		require.NoError(t, os.WriteFile(changed, []byte(change(string(text))), 0o600))
		status, out := s.replays("--to", to, "--state", changed)
		assert.Equal(t, 1, status, name)
		assert.Contains(t, out, "state "+changed, name)
	}
	require.Zero(t, s.terminate())
}

func fileTime(name string) time.Time {
	info, err := os.Stat(name)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Live traffic keeps its latency beside a replay: each is measured over as many loads. The test asks only that both go on; -v shows the
// figures.
func TestLiveTrafficBesideAReplay(t *testing.T) {
	h := newHome(t)
	s := serveChild(h, h.path("pursekeeper.yaml"))
	const loads = 400
	card := 2000
	measure := func(n int) (p50, p99 time.Duration) {
		took := make([]time.Duration, n)
		for i := range took {
			began := time.Now()
			card++
			s.strange(card)
			took[i] = time.Since(began)
		}
		slices.Sort(took)
		return took[n/2], took[n*99/100]
	}
	alone50, alone99 := measure(loads)
	s.sealed(loads)
	replay := start(t, []string{"audit", "replay", "-q", "--server", "https://" + s.public, "--tls", h.path("tls"), "--part", "64"})
	beside50, beside99 := measure(loads)
	beside := "the replay ended before the loads"
	if replay.running() {
		beside = "the replay went on all the time"
	}
	assert.Zero(t, replay.status(patience), replay.out.String())
	t.Logf("alone p50 %v p99 %v, beside a replay p50 %v p99 %v; %s", alone50, alone99, beside50, beside99, beside)
	assert.Less(t, beside99, patience/10)
	require.Zero(t, s.terminate())
}

// The bar on a terminal shows how far a replay is.
func TestTheBarOfAReplay(t *testing.T) {
	var out strings.Builder
	p := &replayProgress{out: &out, bar: true}
	p.show(&replayState{Next: 50, Sealed: 1000, End: 200, Equal: 40, Different: 1})
	p.end()
	assert.Equal(t, "\r\x1b[K[##########..............................]  25%  entry 50  40 equal  1 different\r\x1b[K", out.String())
	out.Reset()
	p = &replayProgress{out: &out, bar: true, to: 100}
	p.show(&replayState{Next: 50, Sealed: 1000, End: 200, Equal: 40, Different: 1})
	assert.Contains(t, out.String(), "]  50%  entry 50")
	out.Reset()
	p = &replayProgress{out: &out, last: time.Now().Add(-time.Hour)}
	p.show(&replayState{Next: 50, Equal: 40})
	assert.Equal(t, "entry 50  40 equal  0 different\n", out.String())
	out.Reset()
	(&replayState{
		Equal: 1, Different: 2, Differences: []difference{{12, "MAC2", "AuthorizeLoad", "APPROVED", "demo/\x1b[2J"}},
		KeyGone: map[string]uint64{"demo/tac/9": 3}, NotReplayable: map[string]uint64{"PIN": 1, "LATER": 2},
	}).print(&out)
	assert.Equal(t, "DIFFERENT        entry 12: AuthorizeLoad is recorded as APPROVED, demo/?[2J: MAC2 differs\nDIFFERENT        and 1 entry more\n"+
		"equal            1 entry\ndifferent        2 entries\nnot replayable   2 entries: LATER\n"+
		"not replayable   1 entry: the command carries a PIN, which is not recorded\nkey gone         3 entries: demo/tac/9\nno MAC           0 entries\n", out.String())
}

// busySigner seals a thousand entries while it replays ten.
type busySigner struct{ sealed, calls uint64 }

func (s *busySigner) Replay(_ context.Context, r *v1.ReplayRequest) (*v1.ReplayResponse, error) {
	s.calls++
	to := r.To
	if to == 0 || to > s.sealed {
		to = s.sealed
	}
	next := min(r.From+10, to)
	answer := &v1.ReplayResponse{Next: next, Done: next == to, Sealed: s.sealed}
	s.sealed += 1000
	if s.calls > 100 {
		return nil, errors.New("it goes on and on")
	}
	return answer, nil
}

// A replay without an end ends at what was sealed when it began, also when it goes on after an interruption.
func TestAReplayEndsWhereItBegan(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	signer := &busySigner{sealed: 100}
	for _, interrupted := range []bool{true, false} {
		state, err := openReplayState(file, replayed{})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		err = (&auditReplayCmd{Rate: 1_000_000}).replay(ctx, signer, state, func(s *replayState) {
			if interrupted && s.Next == 50 {
				stop()
			}
		})
		if interrupted {
			require.ErrorIs(t, err, context.Canceled)
			continue
		}
		require.NoError(t, err)
		assert.EqualValues(t, 100, state.Next)
	}
	assert.EqualValues(t, 10, signer.calls)
}
