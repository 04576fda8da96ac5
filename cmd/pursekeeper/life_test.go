package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/purse"
)

// The whole life of a key set, by the program and ssh-keygen, in the hands of three officers, on two nodes over one token and one store: init,
// a ceremony, keys made and activated, loads, a rotation under load with not one failed request, the old version retired and destroyed; and at
// the end every approval verified from the record by ssh-keygen alone.
func TestTheLifeOfAKeySet(t *testing.T) {
	i := newInstitution(t)
	node1 := i.node("node1")
	i.server = "https://" + node1.public
	code, body := node1.ask("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "pursekeeper init")
	founded := []string{"init", "--config", i.path("node1.yaml"), "--quorum", "2", "--clients", i.path("clients.yaml")}
	for _, name := range officers {
		founded = append(founded, "--officer", name+"="+i.path(name+".pub"))
	}
	require.Contains(t, i.does(founded...), "revision 1")
	eventually(t, "node 1 has the catalogue", node1.ready)

	i.decide("change", "propose", "keyset.create", "--set", "gd", "--algorithm", "3DES", "--profile", "pboc-ep", "--issuer", makerIssuer)
	control := i.ceremony()
	i.decide("key", "activate", "--set", "gd", "--keys", "control/1")
	i.decide("change", "propose", "key.create", "--set", "gd", "--kinds", "load,tac", "--version", "1", "--boundary", "CARD", "--without-backup",
		"--due", time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339))
	i.decide("key", "activate", "--set", "gd", "--keys", "load/1,tac/1")
	require.Regexp(t, `gd/load/1 +active +\S+ +pursekeeper key rotate --set gd --kinds load`, i.as("alice", "key", "due"))

	node2 := i.node("node2")
	eventually(t, "both nodes are ready", func() bool { return node1.ready() && node2.ready() })
	nodes := [2]pursekeeperv1connect.SignerServiceClient{node1.client("platform"), node2.client("platform")}
	profile, err := purse.ShippedProfile("pboc-ep")
	require.NoError(t, err)
	maker := &cardMaker{T: t, profile: profile, control: control, client: node1.client("personaliser")}
	old := []*traveller{maker.card(1), maker.card(1), maker.card(1), maker.card(1)}
	onTheRoad := travel(t, nodes, old)
	onTheRoad.goesOn(20)

	young := i.rotate([]*served{node1, node2}, maker)
	younger := travel(t, [2]pursekeeperv1connect.SignerServiceClient{nodes[1], nodes[0]}, young)
	younger.goesOn(20)
	onTheRoad.goesOn(20) // cards that answer the old version go on
	t.Logf("%d loads of old cards through the rotation", onTheRoad.ends())

	i.retire([]*served{node1, node2}, old[0], nodes)
	younger.goesOn(20)
	t.Logf("%d loads of new cards through the retirement and the destruction", younger.ends())
	require.Contains(t, i.does("key", "check", "--config", i.path("node1.yaml")), "has the 3 keys of the catalogue")

	require.Zero(t, node2.terminate())
	eventually(t, "node 1 has sealed all", func() bool {
		return node1.metric("audit_sealer") == 1 && node1.metric("audit_unsealed_entries") == 0
	})
	require.Zero(t, node1.terminate())
	i.approvalsByKeygen()
}

// rotate makes version 2 of load and tac, which becomes active at its time on both nodes, and answers cards with its keys.
func (i *institution) rotate(nodes []*served, maker *cardMaker) []*traveller {
	i.Helper()
	at := time.Now().Add(patience * 2 / 3).UTC().Truncate(time.Second).Add(time.Second)
	i.decide("key", "rotate", "--set", "gd", "--kinds", "load,tac", "--without-backup", "--activate-at", at.Format(time.RFC3339))
	for _, node := range nodes {
		eventually(i.T, "the node has the new version", func() bool { return node.shows("gd/load/2") != "" })
		state := node.shows("gd/load/2")
		if time.Now().Before(at) {
			require.Equal(i, "pre-active", state)
		}
	}
	require.Contains(i, i.as("alice", "key", "list"), at.Format(time.RFC3339))
	require.NotContains(i, i.as("alice", "key", "due"), "key rotate", "its successor is there")
	for _, node := range nodes {
		active := false
		for end := at.Add(patience); !active && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			active = node.shows("gd/load/2") == "active"
			require.False(i, active && time.Now().Before(at), "active before its time")
		}
		require.True(i, active, "not active after its time")
	}
	for _, node := range nodes {
		require.Equal(i, "active", node.shows("gd/load/1"), "until it is retired")
	}
	return []*traveller{maker.card(2), maker.card(2)}
}

// shows is the state that a node's metrics show of a key; "" when it has none.
func (s *served) shows(key string) string {
	s.t.Helper()
	_, body := s.ask("/metrics")
	found := regexp.MustCompile(`(?m)^pursekeeper_key_state\{key="` + key + `",state="([a-z-]+)"\} 1$`).FindStringSubmatch(body)
	if found == nil {
		return ""
	}
	return found[1]
}

// retire deactivates version 1: it signs nothing more on either node, and verifies what its cards have signed; then destroys it.
func (i *institution) retire(nodes []*served, holder *traveller, platforms [2]pursekeeperv1connect.SignerServiceClient) {
	i.Helper()
	open, tac, err := holder.authorise(i.Context(), platforms[0])
	require.NoError(i, err)
	require.NotEmpty(i, tac, open.Detail)
	i.decide("key", "deactivate", "--set", "gd", "--keys", "load/1,tac/1")
	for _, platform := range platforms {
		refused, tac, err := holder.authorise(i.Context(), platform) // at once, on the node that did not decide it too
		require.NoError(i, err)
		require.Empty(i, tac)
		require.Equal(i, v1.Outcome_OUTCOME_KEY_NOT_ACTIVE, refused.Outcome)
		require.EqualValues(i, 1, refused.Key.Version)
	}
	for n, platform := range platforms {
		confirmed, err := platform.ConfirmLoad(i.Context(), &v1.ConfirmLoadRequest{TransactionId: open.TransactionId, Tac: tac})
		require.NoError(i, err)
		require.Equal(i, v1.Outcome_OUTCOME_VERIFIED, confirmed.Outcome, "node %d: %s", n+1, confirmed.Detail)
		require.Equal(i, "deactivated", nodes[n].shows("gd/tac/1"))
	}
	status, out := run(i.T, []string{"key", "destroy", "--set", "gd", "--keys", "load/1,tac/1", "--reason", "x", "--server", i.server, "--tls", i.path("tls"), "--as", "alice"})
	require.NotZero(i, status)
	require.Contains(i, out, "--forever")
	i.decide("key", "destroy", "--set", "gd", "--keys", "load/1,tac/1", "--forever")
	gone, err := platforms[1].ConfirmLoad(i.Context(), &v1.ConfirmLoadRequest{TransactionId: open.TransactionId, Tac: tac})
	require.NoError(i, err)
	require.Equal(i, v1.Outcome_OUTCOME_KEY_NOT_ACTIVE, gone.Outcome, gone.Detail)
	require.Regexp(i, `gd/tac/1 +destroyed`, i.as("alice", "key", "list"))
	for _, node := range nodes {
		eventually(i.T, "the node is ready without it", func() bool { return node.shows("gd/load/1") == "destroyed" && node.ready() })
	}
}

// approvalsByKeygen verifies the record, and every approval in it with ssh-keygen and nothing else.
func (i *institution) approvalsByKeygen() {
	i.Helper()
	log := i.path("node1-audit")
	i.does("audit", "verify", log, "--key", log+".pub")
	out := i.does("audit", "approvals", "--dir", log, "--out", i.path("approvals"))
	require.Contains(i, out, fmt.Sprintf("%d approvals", 2*i.changes))
	signed, err := filepath.Glob(i.path("approvals/*.sig"))
	require.NoError(i, err)
	require.Len(i, signed, 2*i.changes)
	by := map[string]int{}
	for _, signature := range signed {
		name := strings.TrimSuffix(signature, ".sig")
		content, err := os.ReadFile(name + ".bytes")
		require.NoError(i, err)
		allowed, err := os.ReadFile(name + ".allowed_signers")
		require.NoError(i, err)
		officer, _, _ := strings.Cut(string(allowed), " ")
		registered, err := os.ReadFile(i.path(officer + ".pub"))
		require.NoError(i, err)
		require.Contains(i, string(allowed), strings.Join(strings.Fields(string(registered))[:2], " "), "the key that the officer brought")
		assert.NoError(i, keygenVerifies(name, officer, content), signature)
		assert.Error(i, keygenVerifies(name, officer, append(content, ' ')), "another text")
		by[officer]++
	}
	require.Equal(i, map[string]int{"bob": i.changes, "carol": i.changes}, by)
}

func keygenVerifies(name, officer string, content []byte) error {
	command := exec.Command("ssh-keygen", "-Y", "verify", "-f", name+".allowed_signers", "-I", officer, "-n", "pursekeeper-change@v1", "-s", name+".sig")
	command.Stdin = bytes.NewReader(content)
	return command.Run()
}
