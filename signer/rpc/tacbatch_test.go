package rpc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/store"
)

// demoTACMessage is demoTACRequest as a message.
func demoTACMessage(ref string) *v1.VerifyTacRequest {
	balance := uint64(1000)
	return &v1.VerifyTacRequest{
		Ref: ref, KeySet: "demo", CardSerial: demoCard, KeyVersion: 1, Type: "02", AmountFen: 100, TerminalId: "112233445566",
		Counter: "0007", BalanceFen: &balance, Date: "20240131", Time: "235959", Tac: demoTAC,
	}
}

// mixedBatch is a batch of every kind of item, and what comes of each.
func mixedBatch() (items []fields, want []string) {
	add := func(outcome string, item fields) { items, want = append(items, item), append(want, outcome) }
	add("OUTCOME_VERIFIED", demoTACRequest().with("ref", "a"))
	add("OUTCOME_TAC_MISMATCH", demoTACRequest().with("ref", "b").with("tac", "5D5364F1"))
	add("invalid_argument", demoTACRequest().with("ref", "c").with("type", "03"))
	add("permission_denied", demoTACRequest().with("ref", "d").with("keySet", "foreign"))
	add("OUTCOME_VERIFIED", demoTACRequest().with("ref", "a"))
	add("not_found", demoTACRequest().with("ref", "f").with("keySet", "nowhere"))
	add("OUTCOME_KEY_NOT_ACTIVE", demoTACRequest().with("ref", "g").with("keyVersion", 2))
	add("OUTCOME_TAC_MISMATCH", demoTACRequest().with("ref", "h").with("keySet", "demo-sm4"))
	add("permission_denied", demoTACRequest().with("keySet", "foreign").with("tac", "?"))
	add("invalid_argument", fields{"keySet": "demo"})
	add("not_found", fields{})
	add("OUTCOME_VERIFIED", demoTACRequest().with("ref", strings.Repeat("é", 100)).with("tac", " 5d 53 64 f0 "))
	return items, want
}

// Each item of a batch has its own result, in the order of the items and with its own ref; what is wrong with one is its own.
func TestABatchOfTACs(t *testing.T) {
	w := newWorld(t)
	items, want := mixedBatch()
	r := w.as("platform").post(verifyTacs, fields{"items": items})
	require.Equal(t, 200, r.status, "%v", r.body)
	results := r.body["results"].([]any)
	require.Len(t, results, len(items))
	for i, result := range results {
		result := result.(map[string]any)
		got, _ := result["outcome"].(string)
		ref, _ := result["ref"].(string)
		wantRef, _ := items[i]["ref"].(string)
		assert.Equal(t, wantRef, ref, "item %d", i)
		if failed, ok := result["error"].(map[string]any); ok {
			assert.Empty(t, got)
			assert.NotContains(t, result, "key")
			got = failed["code"].(string)
			message := failed["message"].(string)
			quiet(t, message, got)
			assert.Contains(t, message, map[string]string{
				"invalid_argument": ": ", "permission_denied": `::"foreign`, "not_found": "keySet: is not known",
			}[got])
		}
		assert.Equal(t, want[i], got, "item %d: %v", i, result)
	}
	assert.EqualValues(t, []any{3.0, 2.0, 7.0}, []any{r.body["verified"], r.body["mismatched"], r.body["failed"]})
	recordOfABatch(t, w, r, items, want)
}

// recordOfABatch: the denial first, once; the batch with its digest; then each item that was not verified, in order.
func recordOfABatch(t *testing.T, w *world, r reply, items []fields, want []string) {
	t.Helper()
	entries := w.entries()[1:]
	require.Len(t, entries, 1+1+7)
	assert.Equal(t, "VerifyTacs PERMISSION_DENIED foreign", fmt.Sprint(entries[0].Event, " ", entries[0].Outcome, " ", entries[0].KeySet))
	batch := entries[1]
	assert.Equal(t, "2", r.body["auditIndex"])
	assert.Equal(t, "VerifyTacs OK", fmt.Sprint(batch.Event, " ", batch.Outcome))
	assert.Empty(t, batch.KeySet, "the batch is of several key sets")
	assert.Equal(t, "platform", batch.Client)
	assert.NotEmpty(t, batch.Policy)
	assert.Equal(t, digestOf(t, items, want), batch.Batch.Digest)
	batch.Batch.Digest = ""
	for i := range batch.Batch.Keys {
		assert.Equal(t, batch.Batch.Keys[i].Version == 2, batch.Batch.Keys[i].KCV == "")
		batch.Batch.Keys[i].KCV = ""
	}
	assert.Equal(t, &audit.Batch{Items: 12, Verified: 3, Mismatched: 2, Failed: 7, Keys: []audit.BatchKey{
		{Key: audit.Key{Set: "demo", Kind: "tac", Version: 1}, Boundary: "PROCESS", Items: 4},
		{Key: audit.Key{Set: "demo", Kind: "tac", Version: 2}, Items: 1},
		{Key: audit.Key{Set: "demo-sm4", Kind: "tac", Version: 1}, Boundary: "PROCESS", Items: 1},
	}}, batch.Batch)
	results := r.body["results"].([]any)
	next := 2
	for i, outcome := range want {
		index := results[i].(map[string]any)["auditIndex"]
		switch outcome {
		case "OUTCOME_VERIFIED":
			assert.Equal(t, "2", index)
			continue
		case "permission_denied":
			assert.Nil(t, index)
			continue
		}
		e := entries[next]
		next++
		assert.Equal(t, strconv.Itoa(next), index, "item %d", i)
		assert.Equal(t, strings.ToUpper(strings.TrimPrefix(outcome, "OUTCOME_")), e.Outcome)
		assert.Equal(t, i+1, e.Inputs.Item)
		if strings.HasPrefix(outcome, "OUTCOME_") {
			assert.Equal(t, demoCard, e.Card)
			assert.NotEmpty(t, e.Inputs.TAC)
			continue
		}
		e.Inputs.Item = 0
		assert.Zero(t, e.Inputs, "what a malformed item said is not in the record")
		assert.Empty(t, e.Card)
		assert.NotEmpty(t, e.Detail)
	}
}

// digestOf computes the digest of the record from what its documentation says. Every item here that was judged is of the
// demonstration load but for its key set, version and TAC.
func digestOf(t *testing.T, items []fields, want []string) string {
	t.Helper()
	var lines strings.Builder
	for i, outcome := range want {
		name, judged := strings.CutPrefix(outcome, "OUTCOME_")
		if !judged {
			fmt.Fprintf(&lines, "%s\n", strings.ToUpper(name))
			continue
		}
		tac := strings.ToUpper(strings.ReplaceAll(items[i]["tac"].(string), " ", ""))
		fmt.Fprintf(&lines, "%s %s %s %v %s %s\n", name, items[i]["keySet"], demoCard, items[i]["keyVersion"],
			"0000044C"+"0007"+"00000064"+"02"+"112233445566"+"20240131"+"235959", tac)
	}
	sum := sha256.Sum256([]byte(lines.String()))
	return hex.EncodeToString(sum[:])
}

// The largest batch is far larger than other requests may be, and one more item is refused by name; so is a larger message.
func TestTheLargestBatch(t *testing.T) {
	w := newWorld(t)
	for _, options := range [][]connect.ClientOption{nil, {connect.WithGRPC()}} {
		client := w.as("platform").signer(options...)
		m := &v1.VerifyTacsRequest{}
		for i := range signer.MaxTACs {
			m.Items = append(m.Items, demoTACMessage(fmt.Sprint(i)))
		}
		m.Items[4711].Tac = "00000000"
		before := len(w.entries())
		answer, err := client.VerifyTacs(t.Context(), m)
		require.NoError(t, err)
		require.Len(t, answer.Results, signer.MaxTACs)
		for i, r := range answer.Results {
			require.Equal(t, fmt.Sprint(i), r.Ref)
			require.Equal(t, i == 4711, r.Outcome == v1.Outcome_OUTCOME_TAC_MISMATCH)
		}
		assert.EqualValues(t, signer.MaxTACs-1, answer.Verified)
		entries := w.entries()[before:]
		require.Len(t, entries, 2)
		assert.Equal(t, "demo", entries[0].KeySet)
		assert.Equal(t, 4712, entries[1].Inputs.Item)
		assert.EqualValues(t, before+1, answer.Results[4711].AuditIndex)

		m.Items = append(m.Items, demoTACMessage("one more"))
		_, err = client.VerifyTacs(t.Context(), m)
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
		assert.ErrorContains(t, err, "items: 10001, expected 1 to 10000")
		assert.Len(t, w.entries(), before+2)
	}
	platform := w.as("platform")
	large := func(size int) []byte {
		head, tail := []byte(`{"items":[{"ref":"`), []byte(`"}]}`)
		return append(append(head, bytes.Repeat([]byte("x"), size-len(head)-len(tail))...), tail...)
	}
	assert.Equal(t, 200, platform.send(verifyTacs, "application/json", large(MaxBatchRequest)).status)
	assert.Equal(t, "resource_exhausted", platform.send(verifyTacs, "application/json", large(MaxBatchRequest+1)).code())
	assert.Equal(t, "resource_exhausted", platform.send(verifyTac, "application/json", large(MaxRequest+1)).code())
}

// A token or a store that is away answers nothing of a batch, and records nothing.
func TestABatchInTrouble(t *testing.T) {
	var x trouble
	w := newWorld(t, x.setup)
	platform := w.as("platform")
	items, _ := mixedBatch()
	for range 2000 {
		items = append(items, demoTACRequest())
	}
	before := len(w.entries())
	for name, c := range map[string]struct {
		err  error
		code string
	}{
		"token": {hsm.ErrUnavailable, "unavailable"}, "busy": {hsm.ErrBusy, "resource_exhausted"}, "bug": {fmt.Errorf("odd"), "internal"},
	} {
		x.key.Store(fails(c.err))
		for _, method := range []string{verifyTac, verifyTacs} {
			r := platform.post(method, map[string]fields{verifyTac: demoTACRequest(), verifyTacs: {"items": items}}[method])
			assert.Equal(t, c.code, r.code(), name)
			assert.NotContains(t, r.body, "results")
		}
		x.key.Store(nil)
	}
	x.commit.Store(fails(store.ErrUnavailable))
	assert.Equal(t, "unavailable", platform.post(verifyTacs, fields{"items": []fields{demoTACRequest()}}).code())
	assert.Equal(t, "unavailable", platform.post(verifyTac, demoTACRequest()).code())
	x.commit.Store(nil)
	for _, e := range w.entries()[before:] {
		assert.Equal(t, "PERMISSION_DENIED", e.Outcome, "the denial of a key set is recorded before anything is computed")
	}
	answer := platform.post(verifyTacs, fields{"items": items})
	assert.EqualValues(t, 2003, answer.body["verified"], "%v", answer.text("code"))
}
