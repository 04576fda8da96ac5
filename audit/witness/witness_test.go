package witness_test

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
	"github.com/pursekeeper/pursekeeper/audit/witness"
	"github.com/pursekeeper/pursekeeper/audit/witness/witnesstest"
)

func keyOf(t *testing.T, w *witnesstest.Witness) *tiles.Witness {
	t.Helper()
	key, err := tiles.ParseWitness(w.VerifierKey())
	require.NoError(t, err)
	return key
}

// Two witnesses sign what is published, again and again; the published checkpoint carries both signatures, and each one's newest is kept.
func TestCheckpointsAreCosigned(t *testing.T) {
	a, b := witnesstest.Start(t, "witness.example/a"), witnesstest.Start(t, "witness.example/b")
	n := newNode(t, a, b)
	for _, size := range []uint64{1, 256, 700} {
		n.db.record(t, int(size)-len(n.db.lines), "APPROVED")
		n.sealed(size)
		n.signed(size)
		for _, w := range []*witnesstest.Witness{a, b} {
			kept, err := n.folder.Cosigned(keyOf(t, w))
			require.NoError(t, err)
			for _, signed := range [][]byte{n.checkpoint(), kept, []byte(w.Latest(n.key.Name()))} {
				c, at, err := tiles.OpenCosigned(signed, n.key, keyOf(t, w))
				require.NoError(t, err, "%s", signed)
				assert.Equal(t, size, c.Size)
				assert.WithinDuration(t, time.Now(), at, time.Hour)
			}
		}
	}
	report := n.verify(verifier.Config{Witnesses: []*tiles.Witness{keyOf(t, a), keyOf(t, b)}})
	require.True(t, report.Held(), "%v", report.Findings)
	require.Len(t, report.Witnessed, 2)
	assert.Len(t, report.Unchecked, 1, "%v", report.Unchecked)
	assert.Contains(t, report.Unchecked[0], "an old checkpoint served as new")
	assert.Empty(t, n.alarms)
}

func (n *node) verify(c verifier.Config) *verifier.Report {
	n.Helper()
	c.Folder, c.Key = n.folder, n.key
	report, err := verifier.Verify(n.Context(), c)
	require.NoError(n, err)
	return report
}

// A node that lost what the witness signed, and a witness that lost it, find together again.
func TestWhatWasForgotten(t *testing.T) {
	w := witnesstest.Start(t, "witness.example/a")
	n := newNode(t, w)
	n.db.record(t, 300, "APPROVED")
	n.signed(300)
	w.Forget()
	n.db.record(t, 100, "APPROVED")
	n.signed(400)

	again := &node{T: t, folder: tiles.Folder(t.TempDir() + "/audit"), db: &database{lines: n.db.lines}, signer: n.signer, key: n.key}
	again.run(configured(t, []*witnesstest.Witness{w}), time.Minute)
	again.signed(400)
	again.db.record(t, 500, "APPROVED")
	again.signed(900)
	assert.Empty(t, n.alarms)
	assert.Empty(t, again.alarms)
}

// Another log by the same key, shorter, as long, and longer: the witness signs none, the node raises an alarm, once, and what the witness
// has finds the rewritten log.
func TestAForkGetsNoSignature(t *testing.T) {
	w := witnesstest.Start(t, "witness.example/a")
	n := newNode(t, w)
	n.db.record(t, 600, "APPROVED")
	n.signed(600)
	signed := w.Latest(n.key.Name())
	for _, test := range []struct {
		entries int
		says    string
		kind    verifier.Kind
	}{
		{300, "he signed 600 entries, the log has 300", verifier.CutOrOld},
		{600, "of 600 entries he knows another root", verifier.Fork},
		{900, "our 900 entries do not begin with the 600 that he signed", verifier.Rewritten},
	} {
		f := n.forked(test.entries, w)
		select {
		case e := <-f.alarms:
			assert.Equal(t, audit.WitnessConflict, e)
		case <-time.After(time.Minute):
			require.Fail(t, "no alarm", "%d", test.entries)
		}
		before := w.Offers()
		require.Eventually(t, func() bool { return w.Offers() > before+4 }, time.Minute, time.Millisecond, "it goes on trying")
		assert.Empty(t, f.alarms, "said once")
		status := f.offers.Statuses()[0]
		require.ErrorIs(t, status.Err, witness.ErrConflict)
		require.ErrorContains(t, status.Err, test.says)
		assert.False(t, status.Waiting.IsZero())
		assert.Equal(t, signed, w.Latest(n.key.Name()), "the witness keeps what he signed")

		report := f.verify(verifier.Config{})
		assert.True(t, report.Held(), "the log is whole in itself: %v", report.Findings)
		assert.Len(t, report.Unchecked, 3)
		report = f.verify(verifier.Config{Witnesses: []*tiles.Witness{keyOf(t, w)}})
		require.Len(t, report.Findings, 1)
		assert.Equal(t, verifier.NotCosigned, report.Findings[0].Kind)
		report = f.verify(verifier.Config{Saved: []byte(signed)})
		require.Len(t, report.Findings, 1)
		assert.Equal(t, test.kind, report.Findings[0].Kind, "%v", report.Findings)

		require.NoError(t, f.folder.PublishCosigned(keyOf(t, w), signed), "an attacker who leaves the witness's checkpoint")
		report = f.verify(verifier.Config{Witnesses: []*tiles.Witness{keyOf(t, w)}})
		require.Len(t, report.Findings, 1)
		assert.Equal(t, test.kind, report.Findings[0].Kind, "%v", report.Findings)
	}
	assert.Empty(t, n.alarms)
}

// An old log, with its checkpoint and the witness's signature, is whole in itself: the date of the signature tells, or what the witness
// has.
func TestAnOldCheckpointServedAsNew(t *testing.T) {
	w := witnesstest.Start(t, "witness.example/a")
	n := newNode(t, w)
	n.db.record(t, 300, "APPROVED")
	n.signed(300)
	old := n.checkpoint()
	kept, err := n.folder.Cosigned(keyOf(t, w))
	require.NoError(t, err)
	n.db.record(t, 300, "APPROVED")
	n.signed(600)

	served := &node{T: t, folder: tiles.Folder(t.TempDir() + "/audit"), db: &database{lines: n.db.lines[:300]}, signer: n.signer, key: n.key}
	served.run(nil, time.Minute)
	served.sealed(300)
	require.NoError(t, served.folder.PublishCheckpoint(string(old)))
	require.NoError(t, served.folder.PublishCosigned(keyOf(t, w), string(kept)))
	c := verifier.Config{Witnesses: []*tiles.Witness{keyOf(t, w)}}
	report := served.verify(c)
	require.True(t, report.Held(), "%v", report.Findings)
	require.Len(t, report.Unchecked, 1)
	assert.Contains(t, report.Unchecked[0], "an old checkpoint served as new")

	// Who leaves the newer one that the witness signed is found out by it.
	newer, err := n.folder.Cosigned(keyOf(t, w))
	require.NoError(t, err)
	require.NoError(t, served.folder.PublishCosigned(keyOf(t, w), string(newer)))
	left := served.verify(c)
	require.Len(t, left.Findings, 1)
	assert.Equal(t, verifier.CutOrOld, left.Findings[0].Kind)
	require.NoError(t, served.folder.PublishCosigned(keyOf(t, w), string(kept)))

	c.WitnessedSince = report.Witnessed[0].Time.Add(time.Second)
	report = served.verify(c)
	require.Len(t, report.Findings, 1)
	assert.Equal(t, verifier.CutOrOld, report.Findings[0].Kind)
	report = served.verify(verifier.Config{Saved: []byte(w.Latest(n.key.Name()))})
	require.Len(t, report.Findings, 1)
	assert.Equal(t, verifier.CutOrOld, report.Findings[0].Kind)
}

// Two of three must have signed: one that never did is no finding then.
func TestAQuorum(t *testing.T) {
	a, b, c := witnesstest.Start(t, "witness.example/a"), witnesstest.Start(t, "witness.example/b"), witnesstest.Start(t, "witness.example/c")
	n := newNode(t, a, b)
	n.db.record(t, 300, "APPROVED")
	n.signed(300)
	b.Refuse(http.StatusServiceUnavailable)
	n.db.record(t, 100, "APPROVED")
	require.Eventually(t, func() bool { return n.offers.Statuses()[0].Size == 400 }, time.Minute, time.Millisecond)
	all := []*tiles.Witness{keyOf(t, a), keyOf(t, b), keyOf(t, c)}
	report := n.verify(verifier.Config{Witnesses: all})
	require.Len(t, report.Findings, 1)
	assert.Contains(t, report.Findings[0].Text, "2 of the witnesses signed a checkpoint that is here, expected 3")
	report = n.verify(verifier.Config{Witnesses: all, Quorum: 2})
	require.True(t, report.Held(), "%v", report.Findings)
	assert.Contains(t, strings.Join(report.Unchecked, "\n"), "entries from 300 on")
	report = n.verify(verifier.Config{Witnesses: all, Quorum: 1})
	assert.NotContains(t, strings.Join(report.Unchecked, "\n"), "entries from")
}

// A witness that is away, or knows the log or its key not, delays no sealing, and is an alarm after a while, once.
func TestAWitnessThatIsAway(t *testing.T) {
	w := witnesstest.Start(t, "witness.example/a")
	n := newLog(t)
	n.run(configured(t, []*witnesstest.Witness{w}), time.Millisecond) // he does not know the log
	n.db.record(t, 300, "APPROVED")
	n.sealed(300)
	assert.Equal(t, audit.WitnessLate, <-n.alarms)
	require.ErrorContains(t, n.offers.Statuses()[0].Err, "does not know the log")
	w.Refuse(http.StatusForbidden)
	require.Eventually(t, func() bool {
		return strings.Contains(n.offers.Statuses()[0].Err.Error(), "knows another key of the log")
	}, time.Minute, time.Millisecond)
	w.Know(n.key)
	w.Refuse(0)
	n.signed(300)
	assert.Empty(t, n.alarms, "said once")
}

// What is no signature of the witness's on this checkpoint is not kept, whatever the answer says.
func TestAnswersThatAreNoCosignature(t *testing.T) {
	w := witnesstest.Start(t, "witness.example/a")
	other := newNode(t, w)
	other.db.record(t, 5, "REFUSED")
	other.signed(5)
	elsewhere := keyOf(t, w).Line(w.Latest(other.key.Name()))
	require.NotEmpty(t, elsewhere)
	for _, test := range []struct {
		name, says string
		answer     func(http.ResponseWriter, *http.Request)
	}{
		{"nothing", "no signature by his key", func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusOK) }},
		{"of another checkpoint", "what the witness answered", func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write([]byte(elsewhere)) }},
		{"too much", "more than", func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write(make([]byte, 1<<20)) }},
		{"elsewhere", "302", func(out http.ResponseWriter, r *http.Request) { http.Redirect(out, r, w.URL, http.StatusFound) }},
		{"no size", "409 without the size", func(out http.ResponseWriter, _ *http.Request) { http.Error(out, "no", http.StatusConflict) }},
		{"a size of both", "named two sizes", func(out http.ResponseWriter, r *http.Request) {
			http.Error(out, map[bool]string{true: "2", false: "3"}[startsWith(r, "old 0\n")], http.StatusConflict)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(test.answer))
			t.Cleanup(server.Close)
			n := newLog(t)
			client := server.Client()
			client.CheckRedirect = witness.NoRedirect
			n.run([]witness.Witness{{Name: "bad", URL: server.URL, Key: keyOf(t, w), HTTP: client}}, time.Minute)
			n.db.record(t, 5, "APPROVED")
			require.Eventually(t, func() bool { return n.offers.Statuses()[0].Err != nil }, time.Minute, time.Millisecond)
			err := n.offers.Statuses()[0].Err
			require.ErrorContains(t, err, test.says)
			assert.False(t, errors.Is(err, witness.ErrConflict))
			_, _, err = tiles.OpenCosigned(n.checkpoint(), n.key, keyOf(t, w))
			require.ErrorIs(t, err, tiles.ErrNotCosigned)
			kept, err := n.folder.Cosigned(keyOf(t, w))
			require.NoError(t, err)
			assert.Empty(t, kept)
		})
	}
}

// A witness may say his signature more often than once: one line of it is kept. A checkpoint with a hundred is none to whoever reads it,
// the sealer and its auditors too.
func TestAWitnessThatRepeatsHimself(t *testing.T) {
	talks, other := witnesstest.Start(t, "witness.example/a"), witnesstest.Start(t, "witness.example/b")
	server := httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		talks.Config.Handler.ServeHTTP(answer, r)
		out.WriteHeader(answer.Code)
		said := answer.Body.String()
		if answer.Code == http.StatusOK {
			name, _, _ := strings.Cut(strings.TrimPrefix(said, "— "), " ")
			for i := range byte(98) {
				raw := binary.BigEndian.AppendUint32(nil, keyOf(t, talks).KeyHash())
				said += "— " + name + " " + base64.StdEncoding.EncodeToString(append(raw, i)) + "\n"
			}
		}
		_, _ = out.Write([]byte(said))
	}))
	t.Cleanup(server.Close)
	n := newLog(t)
	talks.Know(n.key)
	other.Know(n.key)
	n.run(append(configured(t, []*witnesstest.Witness{other}), witness.Witness{Name: "talks", URL: server.URL, Key: keyOf(t, talks), HTTP: server.Client()}), time.Minute)
	n.db.record(t, 5, "APPROVED")
	n.signed(5)
	require.Eventually(t, func() bool {
		for _, w := range []*witnesstest.Witness{talks, other} {
			if _, _, err := tiles.OpenCosigned(n.checkpoint(), n.key, keyOf(t, w)); err != nil {
				return false
			}
		}
		return true
	}, time.Minute, time.Millisecond, "%s", n.checkpoint())
	assert.Equal(t, 3, strings.Count(string(n.checkpoint()), "— "))
}

func startsWith(r *http.Request, text string) bool {
	head := make([]byte, len(text))
	n, _ := r.Body.Read(head)
	return string(head[:n]) == text
}
