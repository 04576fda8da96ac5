package rpc

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/signer"
)

const listKeySets = pursekeeperv1connect.KeyServiceListKeySetsProcedure

// The key sets of a caller, each version with its state and boundary and what was found out about it; and who looked is recorded.
func TestKeySetsOfACaller(t *testing.T) {
	found := signer.Exposure{Finding: "NOT_TRIED", Detail: "the token has not been asked yet"}
	w := newWorld(t, func(s *setup) {
		set := &s.keySets[0]
		for i := range set.Versions {
			if set.Versions[i].Kind == keyderive.KindLoad {
				set.Versions[i].Boundary = keyderive.BoundaryToken
				set.Versions[i].Exposure = func() signer.Exposure { return found }
			}
		}
		gone := set.Versions[0]
		gone.Kind, gone.Number, gone.State, gone.Key, gone.Exposure = keyderive.KindLoad, 9, custody.Destroyed, nil, nil
		gone.Boundary = keyderive.BoundaryToken
		set.Versions = append(set.Versions, gone)
		for i := range s.clients {
			switch s.clients[i].Name {
			case "auditor":
				s.clients[i].KeySets = []string{"demo"}
			case "operator":
				s.clients[i].Role, s.clients[i].KeySets = "officer", nil
			}
		}
	})
	client := pursekeeperv1connect.NewKeyServiceClient(w.as("auditor").http, w.as("auditor").base)
	list := func() *v1.ListKeySetsResponse {
		answer, err := client.ListKeySets(t.Context(), &v1.ListKeySetsRequest{})
		require.NoError(t, err)
		require.Len(t, answer.KeySets, 1)
		return answer
	}
	answer := list()
	set := answer.KeySets[0]
	assert.Equal(t, []string{"demo", "3DES", "pboc-ep", "CST"}, []string{set.Name, set.Algorithm, set.CardProfile, set.TimeZone})
	require.Len(t, set.Keys, 3)
	kcv := set.Keys[0].Key.Kcv
	assert.Len(t, kcv, 6)
	want := &v1.KeyVersion{
		Key: &v1.Key{Set: "demo", Kind: "load", Version: 1, Kcv: kcv}, State: "active", Boundary: v1.Boundary_BOUNDARY_TOKEN,
		Exposure: found.Finding, ExposureDetail: found.Detail,
	}
	assert.True(t, proto.Equal(want, set.Keys[0]), "%v", set.Keys[0])
	assert.Equal(t, "destroyed", set.Keys[1].State)
	assert.EqualValues(t, 9, set.Keys[1].Key.Version)
	assert.Equal(t, "tac", set.Keys[2].Key.Kind)
	assert.Equal(t, v1.Boundary_BOUNDARY_PROCESS, set.Keys[2].Boundary)
	assert.Empty(t, set.Keys[2].Exposure)
	entries := w.entries()
	last := entries[len(entries)-1]
	assert.Equal(t, []string{"ListKeySets", "LISTED", "demo", "auditor"}, []string{string(last.Event), last.Outcome, last.Detail, last.Client})

	found = signer.Exposure{Finding: "EXTRACTABLE_BY_PIN_HOLDER", Detail: "by the holder of the PIN"}
	assert.Equal(t, found.Finding, list().KeySets[0].Keys[0].Exposure, "the finding of the day")

	officer := w.as("officer").post(listKeySets, fields{})
	var names []string
	for _, set := range officer.body["keySets"].([]any) {
		names = append(names, set.(map[string]any)["name"].(string))
	}
	assert.Equal(t, []string{"demo", "demo-sm4", "listed"}, names)
	assert.NotContains(t, officer.body, "foreign")

	before := len(w.entries())
	none := w.as("operator").post(listKeySets, fields{})
	assert.Equal(t, "permission_denied", none.code(), "%v", none.body)
	denied := w.entries()[before:]
	require.Len(t, denied, 1)
	assert.Equal(t, "PERMISSION_DENIED", denied[0].Outcome)

	dead := w.as("platform").post(authorizeLoad, demoLoad().with("initializeResponse", "000003E8 0007 09 00 A1B2C3D4 7E1722D0"))
	assert.Equal(t, "OUTCOME_KEY_NOT_ACTIVE", dead.body["outcome"], "a destroyed key does nothing: %v", dead.body)
	refusedField := w.as("officer").post(listKeySets, fields{"keySet": "demo"})
	assert.Equal(t, invalid, refusedField.code())
	assert.Contains(t, refusedField.message(), "keySet: unknown field")
}
