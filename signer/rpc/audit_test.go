package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/policy"
)

const (
	listEntries      = pursekeeperv1connect.AuditServiceListEntriesProcedure
	readEntry        = pursekeeperv1connect.AuditServiceReadEntryProcedure
	proveEntry       = pursekeeperv1connect.AuditServiceProveEntryProcedure
	latestCheckpoint = pursekeeperv1connect.AuditServiceLatestCheckpointProcedure
)

func (c caller) audit() pursekeeperv1connect.AuditServiceClient {
	return pursekeeperv1connect.NewAuditServiceClient(c.http, c.base, connect.WithGRPC())
}

// listAll asks for page after page.
func (c caller) listAll(filter *v1.AuditFilter, size uint32) (all []*v1.AuditEntry) {
	c.t.Helper()
	request := &v1.ListEntriesRequest{Filter: filter, PageSize: size}
	for {
		page, err := c.audit().ListEntries(c.t.Context(), request)
		require.NoError(c.t, err)
		require.LessOrEqual(c.t, len(page.Entries), int(size))
		all = append(all, page.Entries...)
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			return all
		}
	}
}

// sealedWorld has loads of two key sets, a wrong MAC, and a denial on a key set that the auditor may not see, at the index that is returned.
func sealedWorld(t *testing.T) (w *world, foreign uint64) {
	w = newWorld(t)
	w.as("platform").approved(demoLoad())
	w.as("platform").approved(demoLoadSM4())
	w.as("platform").post(authorizeLoad, demoLoad().with("initializeResponse", "000003E8 0008 01 00 A1B2C3D4 00000000"))
	foreign = uint64(len(w.entries()))
	w.as("platform").post(authorizeLoad, demoLoad().with("keySet", "foreign"))
	w.as("officer").post(unlockCard, fields{"keySet": "demo", "cardSerial": demoCard, "reason": "found"})
	w.seal()
	return w, foreign
}

// An auditor lists what he may see, page by page, in order, as it was sealed; each page is recorded with who looked and for what.
func TestAuditorsListTheSealedRecord(t *testing.T) {
	w, foreign := sealedWorld(t)
	record := w.entries()
	auditor := w.as("auditor")
	var want []uint64
	for i := range record {
		if uint64(i) != foreign {
			want = append(want, uint64(i))
		}
	}
	for _, size := range []uint32{1, 2, 1000} {
		before := len(w.entries())
		var got []uint64
		for _, e := range auditor.listAll(nil, size) {
			got = append(got, e.Index)
			line, err := record[e.Index].Encode()
			require.NoError(t, err)
			assert.Equal(t, string(line), e.Entry)
		}
		assert.Equal(t, want, got)
		looks := w.entries()[before:]
		assert.GreaterOrEqual(t, len(looks), (len(want)+int(size)-1)/int(size), "one for each page")
		for _, look := range looks {
			assert.Equal(t, []any{audit.Event("ListEntries"), "auditor", policy.Auditor, "SHOWN"}, []any{look.Event, look.Client, look.Role, look.Outcome})
			assert.NotEmpty(t, look.Policy)
		}
	}
	for _, test := range []struct {
		filter *v1.AuditFilter
		want   int
	}{
		{&v1.AuditFilter{Card: demoCard}, 4},
		{&v1.AuditFilter{Card: "1117", KeySet: "demo"}, 3},
		{&v1.AuditFilter{KeySet: "demo-sm4"}, 1},
		{&v1.AuditFilter{Terminal: "112233445566"}, 3},
		{&v1.AuditFilter{Client: "officer"}, 1},
		{&v1.AuditFilter{Key: "demo/load/1"}, 2},
		{&v1.AuditFilter{Operation: "UnlockCard"}, 1},
		{&v1.AuditFilter{Outcome: "MAC_MISMATCH"}, 1},
		{&v1.AuditFilter{Since: time.Now().Add(time.Hour).Format(time.RFC3339)}, 0},
		{&v1.AuditFilter{Until: time.Now().Add(time.Hour).Format(time.RFC3339)}, len(want)},
		{&v1.AuditFilter{FromIndex: foreign}, 1},
		{&v1.AuditFilter{FromIndex: 1 << 60}, 0},
	} {
		assert.Len(t, auditor.listAll(test.filter, 100), test.want, "%v", test.filter)
	}
	auditor.listAll(&v1.AuditFilter{Card: "1117", Outcome: "APPROVED"}, 100)
	all := w.entries()
	assert.Contains(t, all[len(all)-1].Detail, `card "1117" outcome "APPROVED"`)
}

// One entry, its proof as `audit prove` writes it, and the checkpoint, all recorded; somebody who has nothing but the key verifies them.
func TestAuditorsProveEntries(t *testing.T) {
	w, _ := sealedWorld(t)
	record := w.entries()
	client := w.as("auditor").audit()
	for index := range uint64(3) {
		line, err := record[index].Encode()
		require.NoError(t, err)
		read, err := client.ReadEntry(t.Context(), &v1.ReadEntryRequest{Index: index})
		require.NoError(t, err)
		assert.Equal(t, []any{index, string(line)}, []any{read.Entry.Index, read.Entry.Entry})

		proved, err := client.ProveEntry(t.Context(), &v1.ProveEntryRequest{Index: index})
		require.NoError(t, err)
		assert.Equal(t, string(line), proved.Entry.Entry)
		want, err := verifier.Prove(w.log.Folder, w.log.Key, index)
		require.NoError(t, err)
		assert.Equal(t, want.String(), proved.Proof)
		proof, err := verifier.ParseProof(proved.Proof)
		require.NoError(t, err)
		e, _, err := proof.Check(w.log.Key)
		require.NoError(t, err)
		assert.Equal(t, record[index], e)
	}
	latest, err := client.LatestCheckpoint(t.Context(), &v1.LatestCheckpointRequest{})
	require.NoError(t, err)
	c, err := tiles.OpenCheckpoint([]byte(latest.Checkpoint), w.log.Key)
	require.NoError(t, err)
	assert.EqualValues(t, len(record), c.Size)
	assert.Equal(t, []any{c.Size, w.log.text}, []any{latest.Size, latest.VerifierKey})
	var events []audit.Event
	for _, look := range w.entries()[len(record):] {
		events = append(events, look.Event)
		assert.Equal(t, "SHOWN", look.Outcome)
	}
	assert.Equal(t, []audit.Event{"ReadEntry", "ProveEntry", "ReadEntry", "ProveEntry", "ReadEntry", "ProveEntry", "LatestCheckpoint"}, events)
}

// What is of a key set that the auditor may not use is not there for him, and asking for it is recorded.
func TestEntriesOfForeignKeySets(t *testing.T) {
	w, foreign := sealedWorld(t)
	auditor := w.as("auditor")
	before := len(w.entries())
	for _, r := range []reply{
		auditor.post(listEntries, fields{"filter": fields{"keySet": "foreign"}}),
		auditor.post(readEntry, fields{"index": foreign}),
		auditor.post(proveEntry, fields{"index": foreign}),
	} {
		assert.Equal(t, "permission_denied", r.code(), "%v", r.body)
	}
	lines, err := w.export(auditor, &v1.AuditFilter{KeySet: "foreign"})
	assert.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	assert.Empty(t, lines)
	denied := w.entries()[before:]
	require.Len(t, denied, 4)
	for _, e := range denied {
		assert.Equal(t, "PERMISSION_DENIED", e.Outcome)
		assert.Equal(t, "foreign", e.KeySet)
	}
	lines, err = w.export(auditor, nil)
	require.NoError(t, err)
	assert.NotContains(t, lines, fmt.Sprintf(`{"index":%d,`, foreign))
}

// export is all that a stream answered.
func (w *world) export(c caller, filter *v1.AuditFilter) (lines string, err error) {
	w.t.Helper()
	stream, err := c.audit().ExportEntries(w.t.Context(), &v1.ExportEntriesRequest{Filter: filter})
	require.NoError(w.t, err)
	for stream.Receive() {
		lines += stream.Msg().JsonLines
	}
	return lines, errors.Join(stream.Err(), stream.Close())
}

// Each role's export: an auditor has the lines, any other a denial that is recorded.
func TestExportsAreForAuditors(t *testing.T) {
	w, foreign := sealedWorld(t)
	record := w.entries()
	var want strings.Builder
	for i, e := range record {
		if uint64(i) != foreign {
			line, err := e.Encode()
			require.NoError(t, err)
			fmt.Fprintf(&want, "{\"index\":%d,\"entry\":%s}\n", i, line)
		}
	}
	for _, role := range policy.Roles() {
		before := len(w.entries())
		lines, err := w.export(w.as(string(role)), nil)
		look := w.entries()[before:]
		require.Len(t, look, 1, role)
		assert.Equal(t, []any{audit.Event("ExportEntries"), role}, []any{look[0].Event, look[0].Role})
		if role == policy.Auditor {
			require.NoError(t, err)
			assert.Equal(t, want.String(), lines)
			assert.Equal(t, "SHOWN", look[0].Outcome)
			continue
		}
		assert.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), role)
		assert.Empty(t, lines)
		assert.Equal(t, "PERMISSION_DENIED", look[0].Outcome)
	}
	lines, err := w.export(w.as("auditor"), &v1.AuditFilter{Outcome: "MAC_MISMATCH"})
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(lines, "\n"))
}

// Exports are few at once, one of each client, and stop with the service.
func TestExportsAreBounded(t *testing.T) {
	w := newWorld(t, func(s *setup) {
		for _, name := range []string{"second", "third"} {
			s.clients = append(s.clients, policy.Client{
				Name: name, Identity: devpki.Identity(name), Role: policy.Auditor, KeySets: []string{"demo"},
			})
		}
	})
	w.as("platform").approved(demoLoad())
	w.seal()
	w.log.hold = make(chan struct{})
	ended := make(chan error, exportsAtOnce)
	auditor, second, third := w.as("auditor"), w.as("second"), w.as("third")
	before := len(w.entries())
	for _, caller := range []caller{auditor, second} {
		go func() {
			stream, err := caller.audit().ExportEntries(t.Context(), &v1.ExportEntriesRequest{})
			for err == nil && stream.Receive() {
			}
			ended <- errors.Join(err, stream.Err(), stream.Close())
		}()
	}
	require.Eventually(t, func() bool { return len(w.entries()) == before+exportsAtOnce }, 30*time.Second, time.Millisecond)
	for _, caller := range []caller{auditor, third} {
		_, err := w.export(caller, nil)
		require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err), "%v", err)
		var coded *connect.Error
		require.ErrorAs(t, err, &coded)
		assert.Equal(t, "10", coded.Meta().Get(retryAfter))
	}
	stopped := make(chan error, 1)
	go func() { stopped <- w.end() }()
	for range exportsAtOnce { // each reads, and has no line for its caller yet
		select {
		case err := <-ended:
			assert.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
		case <-time.After(30 * time.Second):
			require.Fail(t, "an export does not stop with the service")
		}
	}
	for _, caller := range []caller{auditor, second, third} {
		caller.http.CloseIdleConnections() // one that was made while the service stopped
	}
	require.NoError(t, <-stopped)
}

// Pages are few at once: each reads tens of thousands of entries where few are chosen. Others wait, as long as their callers do.
func TestPagesAreFewAtOnce(t *testing.T) {
	const callers, atOnce = 12, 2
	w, _ := sealedWorld(t)
	w.log.hold = make(chan struct{})
	auditor := w.as("auditor")
	ended := make(chan error, callers)
	for range callers {
		go func() {
			_, err := auditor.audit().ListEntries(t.Context(), &v1.ListEntriesRequest{})
			ended <- err
		}()
	}
	require.Eventually(t, func() bool { return w.log.inside.Load() == atOnce }, 30*time.Second, time.Millisecond)
	assert.Never(t, func() bool { return w.log.inside.Load() > atOnce }, 200*time.Millisecond, time.Millisecond)
	ctx, leave := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer leave()
	_, err := auditor.audit().ListEntries(ctx, &v1.ListEntriesRequest{})
	assert.Equal(t, connect.CodeDeadlineExceeded, connect.CodeOf(err), "%v", err)
	close(w.log.hold)
	for range callers {
		require.NoError(t, <-ended)
	}
}

func TestAuditRequestsThatAreRefused(t *testing.T) {
	w, _ := sealedWorld(t)
	auditor := w.as("auditor")
	for _, test := range []struct {
		path       string
		body       fields
		code, says string
	}{
		{listEntries, fields{"pageSize": 1001}, invalid, "pageSize"},
		{listEntries, fields{"pageToken": "x"}, invalid, "pageToken"},
		{listEntries, fields{"pageToken": "-1"}, invalid, "pageToken"},
		{listEntries, fields{"filter": fields{"since": "yesterday"}}, invalid, "filter.since"},
		{listEntries, fields{"filter": fields{"until": "2024-01-31"}}, invalid, "filter.until"},
		{listEntries, fields{"filter": fields{"client": strings.Repeat("x", 201)}}, invalid, "filter.client"},
		{listEntries, fields{"filter": fields{"crad": "1"}}, invalid, "crad: unknown field"},
		{listEntries, fields{"filter": fields{"keySet": "none"}}, "not_found", "keySet"},
		{readEntry, fields{"index": 1000}, "not_found", "index"},
		{proveEntry, fields{"index": "18446744073709551615"}, "not_found", "index"},
	} {
		r := auditor.post(test.path, test.body)
		assert.Equal(t, test.code, r.code(), "%v: %v", test.body, r.body)
		assert.Contains(t, r.message(), test.says)
	}
	empty := newWorld(t)
	assert.Equal(t, "not_found", empty.as("auditor").post(latestCheckpoint, fields{}).code(), "nothing is sealed yet")
	assert.Empty(t, empty.as("auditor").listAll(nil, 10))
}
