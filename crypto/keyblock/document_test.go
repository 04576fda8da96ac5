package keyblock

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// The document's example is the vector of an SM4 load master under AES-256.
func TestTheDocumentsExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/key-blocks.md")
	require.NoError(t, err)
	for _, v := range ownVectors(t) {
		if v.Cipher == "AES-256" && v.Algorithm == suite.SM4 && v.Kind == "load" {
			assert.Contains(t, string(text), "block="+v.Block+"\n")
			assert.Contains(t, string(text), "kbpk="+v.KBPK+"\n")
			assert.Contains(t, string(text), "0080"+strings.ToLower(v.Key+v.Padding)+"\n"+v.Block[112:]+"\n")
			return
		}
	}
	t.Fatal("the vector is not there")
}
