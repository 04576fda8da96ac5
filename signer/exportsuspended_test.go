package signer

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
)

// threeSealed is a sealed record of three entries.
type threeSealed struct{}

func (threeSealed) Checkpoint(context.Context) (Checkpoint, error) { return Checkpoint{Size: 3}, nil }

func (threeSealed) Each(_ context.Context, from, size uint64, yield func(uint64, []byte, audit.Entry) error) error {
	for i := from; i < size; i++ {
		if err := yield(i, []byte("{}"), audit.Entry{}); err != nil {
			return err
		}
	}
	return nil
}

func (threeSealed) Prove(context.Context, uint64) ([]byte, string, error) {
	return nil, "", errors.New("no proofs")
}

// An export that is under way ends when officers suspend its caller: it may be hours long.
func TestAnExportEndsWhenItsCallerIsSuspended(t *testing.T) {
	auditor := policy.Client{Name: "auditor", Identity: "spiffe://pursekeeper.test/auditor", Role: policy.Auditor, KeySets: []string{"demo"}}
	b := &bench{}
	decide := func(revision uint64) {
		compiled, err := policy.New(policy.Rules{Clients: []policy.Client{auditor}, Policies: policy.Shipped()})
		require.NoError(t, err)
		require.NoError(t, b.Use(revision, compiled, []KeySet{testKeySet(t, "demo", suite.TDES)}))
	}
	b = (&office{t: t}).governed(t, t.TempDir()+"/state.db", func(c *Config) {
		c.Sealed = threeSealed{}
		c.Reload = func(context.Context) error { return nil }
	})
	decide(1)
	caller, err := b.Identify(t.Context(), []string{auditor.Identity})
	require.NoError(t, err)
	run := func(between func(n int)) (n int, err error) {
		export, err := b.ExportEntries(t.Context(), caller, audit.Query{}, 0)
		require.NoError(t, err)
		err = export(t.Context(), func(SealedEntry) error { n++; between(n); return nil })
		return n, err
	}
	n, err := run(func(int) { decide(2) })
	require.NoError(t, err, "a change that is not about him")
	assert.Equal(t, 3, n)

	auditor.Suspended = true
	n, err = run(func(int) { decide(3) })
	var denied *policy.Denied
	require.ErrorAs(t, err, &denied)
	assert.Equal(t, 1, n)
}
