package tiles

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
)

// A key of tests, published here.
const witnessKey = "witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"

var witnessPrivate = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

func TestWitnessKeys(t *testing.T) {
	w, err := ParseWitness(witnessKey)
	require.NoError(t, err)
	assert.Equal(t, []any{"witness.example/w1", uint32(0xaa4a09d1)}, []any{w.Name(), w.KeyHash()})
	for _, test := range []struct{ text, says string }{
		{"", "not in three parts"},
		{"witness.example/w1+aa4a09d1", "not in three parts"},
		{strings.Replace(witnessKey, "/", " ", 1), "a name with spaces"},
		{strings.Replace(witnessKey, "aa4a", "aa4b", 1), "its hash is another key's"},
		{strings.Replace(witnessKey, "aa4a", "aa4", 1), "eight hex digits"},
		{strings.Replace(witnessKey, "w1", "w2", 1), "its hash is another key's"},
		{strings.Replace(witnessKey, "BOpK", "BOpL", 1), "its hash is another key's"},
		{witnessKey + "AAAA", "the base64 of 33 bytes"},
		{"log.example/a+1c873df7+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs", "it has the type 1, not 4"},
	} {
		_, err := ParseWitness(test.text)
		require.ErrorContains(t, err, test.says, test.text)
	}
}

// line is a signature line of the witness's, of a text at a time.
func line(text string, at uint64) string {
	raw := binary.BigEndian.AppendUint32(nil, 0xaa4a09d1)
	raw = binary.BigEndian.AppendUint64(raw, at)
	raw = append(raw, ed25519.Sign(witnessPrivate, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text))...)
	return "— witness.example/w1 " + base64.StdEncoding.EncodeToString(raw) + "\n"
}

func TestCosignedCheckpoints(t *testing.T) {
	private, public, err := note.GenerateKey(rand.Reader, "log.example/a")
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	key, err := note.NewVerifier(public)
	require.NoError(t, err)
	w, err := ParseWitness(witnessKey)
	require.NoError(t, err)
	c := Checkpoint{"log.example/a", 42, leaf(1)}
	bare, err := c.Sign(signer)
	require.NoError(t, err)
	signed := bare + line(c.Text(), 1706716799)

	opened, at, err := OpenCosigned([]byte(signed), key, w)
	require.NoError(t, err)
	assert.Equal(t, c, opened)
	assert.Equal(t, "2024-01-31T15:59:59Z", at.Format(time.RFC3339))
	again, err := Bare([]byte(signed), key)
	require.NoError(t, err)
	assert.Equal(t, bare, again)
	opened, err = OpenCheckpoint([]byte(signed), key)
	require.NoError(t, err, "who knows no witness reads it too")
	assert.Equal(t, c, opened)

	other := c
	other.Size = 43
	for name, wrong := range map[string]string{
		"none": bare, "of another checkpoint": bare + line(other.Text(), 1), "later than time goes": bare + line(c.Text(), 1<<63),
		"of another time": bare + strings.Replace(line(c.Text(), 1706716799), "Blum5", "Blum6", 1),
	} {
		require.NotEqual(t, signed, wrong, name)
		_, _, err := OpenCosigned([]byte(wrong), key, w)
		require.ErrorIs(t, err, ErrNotCosigned, name)
	}
	_, otherPublic, err := note.GenerateKey(rand.Reader, "log.example/a")
	require.NoError(t, err)
	otherKey, err := note.NewVerifier(otherPublic)
	require.NoError(t, err)
	_, _, err = OpenCosigned([]byte(signed), otherKey, w)
	require.ErrorIs(t, err, ErrOtherKey, "the witness's signature is not the log's")
}

// A signature is added to the checkpoint that it is of, in the place of an earlier one of the same witness, and to no other checkpoint.
func TestSignaturesAreAdded(t *testing.T) {
	f := Folder(t.TempDir())
	c := Checkpoint{"log.example/a", 42, leaf(1)}
	w, err := ParseWitness(witnessKey)
	require.NoError(t, err)
	bare := c.Text() + "\n— log.example/a AAAA\n"
	require.NoError(t, f.PublishCheckpoint(bare))
	for _, at := range []uint64{1, 2} {
		require.NoError(t, f.AddCosignature(c, w, line(c.Text(), at)))
		signed, err := f.Checkpoint()
		require.NoError(t, err)
		assert.Equal(t, bare+line(c.Text(), at), string(signed))
	}
	newer := Checkpoint{"log.example/a", 43, leaf(2)}
	require.NoError(t, f.PublishCheckpoint(newer.Text()+"\n— log.example/a AAAA\n"))
	require.NoError(t, f.AddCosignature(c, w, line(c.Text(), 3)))
	signed, err := f.Checkpoint()
	require.NoError(t, err)
	assert.Equal(t, newer.Text()+"\n— log.example/a AAAA\n", string(signed))
}
