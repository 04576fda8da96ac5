package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Verifier keys of one key, which is published here: two of a witness, and one of a log.
const (
	witnessKey  = "witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
	sameWitness = "witness.example/w2+08e4812c+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
	logKey      = "log.example/a+1c873df7+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
)

func TestWitnesses(t *testing.T) {
	c, err := readText(t, folder(t), strings.Replace(good, "directory: audit", `directory: audit, witnesses: [
  {name: near, url: "http://127.0.0.1:1/w", key: `+witnessKey+`, ca: tls/server.pem}]`, 1))
	require.NoError(t, err)
	require.Len(t, c.Audit.Witnesses, 1)
	w := c.Audit.Witnesses[0]
	assert.Equal(t, []any{"near", "http://127.0.0.1:1/w", "witness.example/w1", uint32(0xaa4a09d1)}, []any{w.Name, w.URL, w.Key.Name(), w.Key.KeyHash()})
	assert.NotNil(t, w.CAs)
}
