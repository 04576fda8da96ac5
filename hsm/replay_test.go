package hsm_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/testvectors"
)

var _ testvectors.Engine = hsm.Replay{}

// Every vector holds on every boundary of a real token.
func TestVectorsOnEveryBoundary(t *testing.T) {
	made := hsmtest.NewToken(t)
	for boundary, report := range replays(t, made, hsm.Profile{}) {
		require.Empty(t, report.Failures, boundary)
		require.NotEmpty(t, report.Rows)
	}
}

// Every vector of every operation holds at the TOKEN boundary of a token that has SM4 and key-XOR-key derivation: nothing falls back
// to another boundary there. The counts are in the test's output, and none is zero.
func TestVectorsInsideTheSM4Token(t *testing.T) {
	made, _ := hsmtest.NewSM4Token(t)
	profile, err := hsm.ParseProfile([]byte(made.Mechanisms.Profile()))
	require.NoError(t, err)
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		for _, kind := range keyderive.Kinds() {
			require.Equal(t, keyderive.BoundaryToken, profile.Strictest(kind, alg))
		}
	}
	for boundary, report := range replays(t, made, profile) {
		allOperationsHold(t, boundary, report)
	}
}

// Every vector of every operation holds on openCryptoki, at CARD and PROCESS: 3DES by ECB and in memory, SM4 in memory.
func TestVectorsOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		profile, err := hsm.ShippedProfile(hsm.ProfileOpenCryptoki)
		require.NoError(t, err)
		reports := replays(t, made, profile)
		for _, boundary := range []keyderive.Boundary{keyderive.BoundaryCard, keyderive.BoundaryProcess} { // it has no TOKEN
			allOperationsHold(t, boundary, reports[boundary])
		}
	})
}

// allOperationsHold prints the counts of a report, and demands that none is zero.
func allOperationsHold(t *testing.T, boundary keyderive.Boundary, report testvectors.Report) {
	t.Helper()
	var table strings.Builder
	require.NoError(t, report.Print(&table))
	t.Logf("boundary %v\n%s", boundary, table.String())
	require.Empty(t, report.Failures)
	require.True(t, report.Holds())
	for _, operation := range testvectors.Operations() {
		values := map[suite.Algorithm]int{}
		for _, row := range report.Rows {
			if row.Operation == operation {
				values[row.Algorithm] += row.Compared + row.ByEffect
			}
		}
		assert.NotZero(t, values[suite.TDES], "%v at %v", operation, boundary)
		assert.NotZero(t, values[suite.SM4], "%v at %v", operation, boundary)
	}
}

// replays runs all vectors at each boundary of the token.
func replays(t *testing.T, made *hsmtest.Token, profile hsm.Profile) map[keyderive.Boundary]testvectors.Report {
	t.Helper()
	token, err := hsm.Open(context.Background(), hsm.Config{Module: made.Module, TokenLabel: made.Label, Profile: profile,
		PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(made.PIN)), nil }})
	require.NoError(t, err)
	defer func() { require.NoError(t, token.Close()) }()
	files, err := testvectors.Embedded()
	require.NoError(t, err)
	require.NotEmpty(t, files)
	reports := map[keyderive.Boundary]testvectors.Report{}
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess} {
		var whole testvectors.Report
		for _, file := range files {
			report, err := testvectors.Replay(context.Background(), token.Replay(boundary), file)
			require.NoError(t, err)
			whole.Merge(report)
		}
		reports[boundary] = whole
	}
	require.NoError(t, token.Ready(context.Background()))
	return reports
}
