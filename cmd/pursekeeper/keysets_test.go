package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
)

// What the start found out about each TOKEN master is what officers are shown, by the binary and its real token.
func TestKeySetsShowWhatWasFound(t *testing.T) {
	h := newHome(t)
	s := serveChild(h, h.config("keys.yaml", edit{`\{kind: purchase, version: 1, state: active`, `{kind: purchase, version: 1, state: destroyed`}))
	flags := clientFlags{Server: "https://" + s.public, TLS: h.path("tls"), As: "officer"}
	connection, err := flags.http()
	require.NoError(t, err)
	defer connection.CloseIdleConnections()
	client := pursekeeperv1connect.NewKeyServiceClient(connection, flags.Server)
	answer, err := client.ListKeySets(t.Context(), &v1.ListKeySetsRequest{})
	require.NoError(t, err)
	findings := map[string]int{}
	for _, set := range answer.KeySets {
		assert.Equal(t, "pboc-ep", set.CardProfile)
		assert.Equal(t, "Asia/Shanghai", set.TimeZone)
		for _, key := range set.Keys {
			assert.Len(t, key.Key.Kcv, 6)
			state := "active"
			if set.Name == "demo" && key.Key.Kind == "purchase" {
				state = "destroyed"
			}
			assert.Equal(t, state, key.State, "%v", key)
			switch {
			case state == "destroyed" || key.Boundary != v1.Boundary_BOUNDARY_TOKEN:
				assert.Empty(t, key.Exposure)
			default:
				assert.Equal(t, "EXTRACTABLE_BY_PIN_HOLDER", key.Exposure, "SoftHSM lets it")
				assert.Contains(t, key.ExposureDetail, "the holder of the PIN is the boundary")
			}
			findings[key.Exposure]++
		}
	}
	connection.CloseIdleConnections()
	assert.Positive(t, findings[""])
	assert.Positive(t, findings["EXTRACTABLE_BY_PIN_HOLDER"])
	require.Zero(t, s.terminate())
}
