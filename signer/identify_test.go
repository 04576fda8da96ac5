package signer

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/policy"
)

// A certificate may carry more names than an entry has room for; whoever has one is denied, and recorded, like any other stranger.
func TestStrangersWithLongNamesAreRecorded(t *testing.T) {
	b := newBench(t)
	names := []string{strings.Repeat("\x01", 1<<16), "spiffe://test/" + strings.Repeat("x", 1<<16)}
	for range 20 {
		names = append(names, "stranger.test")
	}
	_, err := b.Identify(t.Context(), names)
	var denied *policy.Denied
	require.True(t, errors.As(err, &denied), "%.200v", err)
	entries := b.entries(t)
	last := entries[len(entries)-1]
	assert.Equal(t, "PERMISSION_DENIED", last.Outcome)
	assert.Contains(t, last.Detail, "the certificate names no client of this signer: ")
	assert.Contains(t, last.Detail, "and 14 more")
}
