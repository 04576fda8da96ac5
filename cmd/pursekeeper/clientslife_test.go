package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
)

// deskPolicy lets one client look at transactions, which no role alone lets it.
const deskPolicy = `// The service desk of Guangdong answers questions about loads.
@id("desk-looks")
permit (
  principal == Client::"desk",
  action in [Action::"GetTransaction", Action::"ListTransactions", Action::"ListKeySets"],
  resource in KeySet::"gd"
);
`

// The whole life of clients and policies, by the program, in the hands of three officers, on two nodes: the first rules, a client, its right, its
// suspension at once on both nodes and in the middle of a stream, its return by a quorum, a wrong policy that changes nothing; and at the end the
// rules of each decision found in the sealed record alone.
func TestTheLifeOfClientsAndPolicies(t *testing.T) {
	i := newInstitution(t)
	node1 := i.node("node1")
	i.server = "https://" + node1.public
	i.initRules()
	eventually(t, "node 1 has the catalogue", node1.ready)
	node2 := i.node("node2")
	eventually(t, "node 2 is ready", node2.ready)
	nodes := []*served{node1, node2}
	i.decide("change", "propose", "keyset.create", "--set", "gd", "--algorithm", "3DES", "--profile", "pboc-ep", "--issuer", makerIssuer)

	look := &v1.ListTransactionsRequest{KeySet: "gd"}
	may := func(name string) (errs []error) {
		for _, node := range nodes {
			_, err := node.client(name).ListTransactions(t.Context(), look)
			errs = append(errs, err)
		}
		return errs
	}
	denied := func(name, why string) {
		t.Helper()
		for n, err := range may(name) {
			require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "node %d: %v", n+1, err)
			require.ErrorContains(t, err, why)
		}
	}
	allowed := func(name string) {
		t.Helper()
		for n, err := range may(name) {
			require.NoError(t, err, "node %d", n+1)
		}
	}
	_, err := node2.client("desk").ListTransactions(t.Context(), look)
	require.Error(t, err, "nobody knows the desk")
	i.decide("change", "propose", "client.add", "--client", "desk", "--identity", devpki.Identity("desk"), "--role", "operator", "--key-sets", "gd")
	denied("desk", "no policy permits it")

	i.policyFolder("rules")
	i.write("rules/desk.cedar", deskPolicy)
	i.write("rules/limits.yaml", "limits:\n  - {name: card-day, per: card, period: day, maxFen: 1000}\n")
	i.decide("change", "propose", "policy.set", "--dir", i.path("rules"))
	allowed("desk")
	allowed("platform")
	require.Contains(t, i.as("desk", "key", "list"), "KEY")

	i.wrongPolicy()
	allowed("platform")

	i.suspended(nodes, denied)
	i.resumed(allowed, denied)

	i.rulesOfTheRecord(nodes)
}

// initRules founds the catalogue: the officers by their identities, the others from a file, with the shipped documents.
func (i *institution) initRules() {
	i.Helper()
	clients, err := os.ReadFile(i.path("clients.yaml"))
	require.NoError(i, err)
	var others []string
	for line := range strings.Lines(string(clients)) {
		if !strings.Contains(line, "role: officer") {
			others = append(others, line)
		}
	}
	i.write("others.yaml", strings.Join(others, ""))
	arguments := []string{"init", "--config", i.path("node1.yaml"), "--quorum", "2", "--key-sets", "gd", "--clients", i.path("others.yaml")}
	for _, name := range officers {
		arguments = append(arguments, "--officer", name+"="+i.path(name+".pub"), "--identity", name+"="+devpki.Identity(name))
	}
	out := i.does(arguments...)
	require.Regexp(i, `client +alice +officer +`+devpki.Identity("alice")+` \[gd\]`, out)
	require.Regexp(i, `policy +platform +SHA-256 [0-9a-f]{64}`, out)
	require.Regexp(i, `rules +SHA-256 [0-9a-f]{64}`, out)
}

// policyFolder writes the rules in force as a folder.
func (i *institution) policyFolder(name string) {
	i.Helper()
	out := i.as("alice", "policy", "show", "--out", i.path(name))
	require.Contains(i, out, "policy platform, SHA-256 ")
}

// wrongPolicy: a document with a fault is refused with its line when it is proposed, and the rules in force stay.
func (i *institution) wrongPolicy() {
	i.Helper()
	before := i.as("alice", "policy", "show")
	i.policyFolder("wrong")
	refused := func(says string) {
		i.Helper()
		status, out := run(i.T, []string{"change", "propose", "policy.set", "--dir", i.path("wrong"), "--reason", "x", "--server", i.server, "--tls", i.path("tls"), "--as", "alice"})
		require.Equal(i, 1, status, out)
		require.Contains(i, out, "refused, INVALID")
		require.Contains(i, out, says)
	}
	for text, says := range map[string]string{
		strings.Replace(deskPolicy, "GetTransaction", "GetTransactoin", 1):                                "desk:5:",
		strings.Replace(deskPolicy, `KeySet::"gd"`, `KeySet::"dg"`, 1):                                    "desk:6:",
		strings.Replace(deskPolicy, "\n);", "\n", 1):                                                      "desk:",
		strings.Replace(deskPolicy, ");", ") when { context.amuontFen > 1 };", 1):                         "desk:7:",
		deskPolicy + "@id(\"no-officers\")\nforbid (principal in Role::\"officer\", action, resource);\n": "desk:",
	} {
		i.write("wrong/desk.cedar", text)
		refused(says)
	}
	i.write("wrong/desk.cedar", deskPolicy)
	i.write("wrong/limits.yaml", "limits:\n  - {name: card-day, per: card, period: day, maxFen: 1000,\n     alarmFen: 2000}\n")
	refused("limits:3:")
	require.Equal(i, before, i.as("alice", "policy", "show"))
}

// suspended: an officer stops the platform on node 1, while it has a stream open on node 2; whatever comes after is refused, on both nodes.
func (i *institution) suspended(nodes []*served, denied func(name, why string)) {
	i.Helper()
	stream, err := nodes[1].client("platform").Transact(i.Context())
	require.NoError(i, err)
	ask := func(ref string) *v1.TransactResponse {
		require.NoError(i, stream.Send(&v1.TransactRequest{Ref: ref, Request: &v1.TransactRequest_ListTransactions{
			ListTransactions: &v1.ListTransactionsRequest{KeySet: "gd"},
		}}))
		answer, err := stream.Receive()
		require.NoError(i, err)
		require.Equal(i, ref, answer.Ref)
		return answer
	}
	require.NotNil(i, ask("before").GetListTransactions())
	out := i.as("alice", "client", "suspend", "platform", "--reason", "its certificate was stolen")
	require.Contains(i, out, "Suspend a client, at once and without approvals")
	require.Regexp(i, `(?m)^[0-9a-f]{32}  APPLIED   client\.suspend +by alice: at once`, out)
	i.refusedInStream(stream)
	denied("platform", "client platform is suspended")
	require.Regexp(i, `platform +platform .* SUSPENDED`, i.as("bob", "client", "list"))

	// Who only looks is stopped as well, on a node that has not looked for a new revision yet.
	audit := []string{"audit", "list", "--server", "https://" + nodes[1].public, "--tls", i.path("tls"), "--as", "auditor", "--limit", "1"}
	i.does(audit...)
	i.as("alice", "client", "suspend", "auditor", "--reason", "and his")
	status, out := run(i.T, audit)
	require.Equal(i, 1, status)
	require.Contains(i, out, "client auditor is suspended")

	// No officer of three has another out of office, where two others must approve.
	status, out = run(i.T, []string{"client", "suspend", "bob", "--reason", "x", "--server", i.server, "--tls", i.path("tls"), "--as", "alice"})
	require.Equal(i, 1, status)
	require.Contains(i, out, "refused, OFFICERS_FEW")
}

// refusedInStream: what a suspended client sends next is refused, and its stream ends, at the latest with the message after that.
func (i *institution) refusedInStream(stream *connect.BidiStreamForClientSimple[v1.TransactRequest, v1.TransactResponse]) {
	i.Helper()
	for range 2 {
		_ = stream.Send(&v1.TransactRequest{Ref: "after", Request: &v1.TransactRequest_ListTransactions{
			ListTransactions: &v1.ListTransactionsRequest{KeySet: "gd"},
		}}) // it may have ended
		answer, err := stream.Receive()
		if err != nil {
			require.Equal(i, connect.CodePermissionDenied, connect.CodeOf(err), "%v", err)
			require.ErrorContains(i, err, "client platform is suspended")
			return
		}
		require.Equal(i, "permission_denied", answer.GetError().GetCode())
		require.Contains(i, answer.GetError().GetMessage(), "client platform is suspended")
	}
	require.Fail(i, "the stream goes on")
}

// resumed: a client comes back by the quorum alone.
func (i *institution) resumed(allowed func(string), denied func(name, why string)) {
	i.Helper()
	out := i.as("alice", "client", "resume", "platform", "--reason", "it has a new one")
	id := proposalID.FindStringSubmatch(out)[1]
	out = i.as("bob", "change", "approve", id, "--key", i.path("bob"), "--yes")
	require.Contains(i, out, "was state    SUSPENDED")
	denied("platform", "client platform is suspended")
	i.as("carol", "change", "approve", id, "--key", i.path("carol"), "--yes")
	i.changes++
	allowed("platform")
	i.decide("client", "resume", "auditor")
}

// rulesOfTheRecord finds, offline, what decided: the desk's first denial by the shipped documents, and its later look by its own.
func (i *institution) rulesOfTheRecord(nodes []*served) {
	i.Helper()
	i.policyFolder("now")
	eventually(i.T, "node 1 has sealed all", func() bool {
		return nodes[0].metric("audit_sealer") == 1 && nodes[0].metric("audit_unsealed_entries") == 0
	})
	log := i.path("node1-audit")
	i.does("audit", "verify", log, "--key", log+".pub")
	require.Contains(i, i.does("audit", "approvals", "--dir", log, "--out", i.path("approvals")), " 0 wrong")
	entry := func(outcome string) string {
		out := i.does("audit", "list", "--dir", log, "--client", "desk", "--outcome", outcome)
		return strings.Fields(strings.Split(strings.TrimSpace(out), "\n")[0])[0]
	}
	then := i.does("audit", "policy", "--dir", log, "--entry", entry("PERMISSION_DENIED"), "--out", i.path("then"))
	assert.NotContains(i, then, "desk-looks")
	assert.NoFileExists(i, i.path("then/desk.cedar"))
	i.does("audit", "policy", "--dir", log, "--entry", entry("LISTED"), "--out", i.path("later"))
	desk, err := os.ReadFile(i.path("later/desk.cedar"))
	require.NoError(i, err)
	assert.Equal(i, deskPolicy, string(desk))
	for _, name := range []string{"now", "later"} {
		files, err := filepath.Glob(i.path(name + "/*"))
		require.NoError(i, err)
		assert.Len(i, files, 8, name)
	}
	status, out := run(i.T, []string{"audit", "policy", strings.Repeat("0", 64), "--dir", log})
	require.Equal(i, 1, status)
	require.Contains(i, out, "the record has no rules with the digest")
	for _, node := range nodes {
		require.Zero(i, node.terminate())
	}
}
