package main

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// onVendorsToken makes a token with SM4 and key-XOR-key derivation, imports the demonstration keys, all inside, and returns a
// configuration of dev's folder that uses it.
func onVendorsToken(t *testing.T, h home, mechanisms hsmtest.Mechanisms, profile string) (path string, made *hsmtest.Token) {
	t.Helper()
	made, _ = hsmtest.NewVendorToken(t, mechanisms)
	h.write("vendor.yaml", profile)
	h.write("vendor-pin", made.PIN)
	edits := []edit{
		{`module: .*`, "module: " + made.Module + "\n  profile: ./vendor.yaml"}, {`label: pursekeeper.*`, "label: " + made.Label},
		{`pin: .*`, "pin: {file: vendor-pin}"}, {`softhsmConf: .*`, "softhsmConf: " + made.ConfPath}, {`store: .*`, "store: {sqlite: " + made.Label + ".db}"},
	}
	for range strings.Count(h.read("pursekeeper.yaml"), "PROCESS") + strings.Count(h.read("pursekeeper.yaml"), "CARD") {
		edits = append(edits, edit{`boundary: (PROCESS|CARD)`, "boundary: TOKEN"})
	}
	path = h.config("on-vendor.yaml", edits...)
	cfg, err := config.Read(path)
	require.NoError(t, err)
	var keys []devKey
	for _, set := range demoKeySets() {
		for _, key := range set.Keys {
			k, err := newDevKey(set, key)
			require.NoError(t, err)
			k.Boundary = keyderive.BoundaryToken
			keys = append(keys, k)
		}
	}
	require.NoError(t, importKeys(t.Context(), cfg, keys, slog.New(slog.DiscardHandler)))
	return path, made
}

// By its profile file, a token that has SM4 serves both algorithms with every key inside, the TAC of 3DES too; and the service tells
// what a thief with the PIN would get, in its record, its log and its metrics.
func TestServeByATokenProfile(t *testing.T) {
	h := newHome(t)
	for i, hardened := range []bool{false, true} {
		t.Run(fmt.Sprintf("hardened %t", hardened), func(t *testing.T) {
			h.t = t
			mechanisms := hsmtest.AllMechanisms()
			mechanisms.Hardened = hardened
			profile := mechanisms.Profile()
			if hardened {
				profile = strings.Replace(profile, "tested: true", "tested: false", 1)
			}
			path, made := onVendorsToken(t, h, mechanisms, profile)
			s := serveChild(h, path, withEnv(made.Env()...))
			on := &platform{}
			on.use(s)
			for _, set := range []string{"demo", "demo-sm4"} {
				require.NoError(t, newWallet(t, on, set, uint64(1000+i)).load(t.Context()), set)
			}
			assert.True(t, s.ready())
			_, metrics := s.ask("/metrics")
			for _, key := range []string{"demo/load/1", "demo/tac/1", "demo-sm4/load/1", "demo-sm4/tac/1"} {
				assert.Contains(t, metrics, fmt.Sprintf("pursekeeper_key_exposed{key=%q} %d\n", key, map[bool]int{false: 1, true: 0}[hardened]))
			}
			assert.Zero(t, s.terminate())
			log := s.out.String()
			assert.Contains(t, log, map[bool]string{false: "EXTRACTABLE_BY_PIN_HOLDER", true: `"NOT_EXTRACTABLE"`}[hardened])
			assert.NotContains(t, log, map[bool]string{true: "EXTRACTABLE_BY_PIN_HOLDER", false: `"NOT_EXTRACTABLE"`}[hardened])
			assert.Equal(t, hardened, strings.Contains(log, "the token's profile was not tested on hardware"), "said of a profile that was not")
		})
	}
}
