package store

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func lines(from, n int) (all [][]byte) {
	for i := range n {
		all = append(all, []byte{byte(from + i)})
	}
	return all
}

func TestRecentEntries(t *testing.T) {
	var r recent
	assert.Empty(t, r.take(0, 0))
	r.add(0, lines(0, 3))
	r.add(3, nil)
	r.add(3, lines(3, 2))
	assert.Nil(t, r.take(0, 6), "more than there are")
	assert.Equal(t, lines(0, 4), r.take(0, 4))
	assert.Equal(t, lines(0, 4), r.take(0, 4), "the same again, until those after are asked for")
	assert.Equal(t, lines(4, 1), r.take(4, 1))
	assert.Nil(t, r.take(3, 1), "forgotten")
	assert.Equal(t, 1, r.bytes)

	r.add(9, lines(9, 2)) // entries 5 to 8 are not this process's
	assert.Nil(t, r.take(4, 1))
	assert.Nil(t, r.take(4, 7))
	assert.Equal(t, lines(9, 2), r.take(9, 2))
}

func TestRecentEntriesAreBounded(t *testing.T) {
	var r recent
	line := bytes.Repeat([]byte("x"), 1<<16)
	const n = 3 * mostRecent / (1 << 16)
	for i := range uint64(n) {
		r.add(i, [][]byte{line})
		require.LessOrEqual(t, r.bytes, mostRecent)
		require.Len(t, r.lines, r.bytes/len(line))
	}
	assert.Nil(t, r.take(0, 1))
	assert.Len(t, r.take(n-10, 10), 10)
}
