package keyblock

import (
	"context"
	"crypto/cipher"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

func cbc(w working, iv, data []byte) {
	cipher.NewCBCEncrypter(w.encryption, iv).CryptBlocks(data, data)
}

func drawHeader(t *rapid.T) Header {
	h := Header{Version: rapid.SampledFrom([]Version{VersionB, VersionD}).Draw(t, "version"), Algorithm: AlgorithmTDES}
	if h.Version == VersionD && rapid.Bool().Draw(t, "aes") {
		h.Algorithm = AlgorithmAES
	}
	usages := make([]Usage, 0, len(modesOf))
	for u := range modesOf {
		usages = append(usages, u)
	}
	slices.Sort(usages)
	h.Usage = rapid.SampledFrom(usages).Draw(t, "usage")
	h.Mode = Mode(rapid.SampledFrom([]byte(modesOf[h.Usage])).Draw(t, "mode"))
	h.KeyVersion = rapid.StringMatching(`[0-9A-Z]{2}|c[0-9]`).Draw(t, "key version")
	h.Exportability = rapid.SampledFrom([]Exportability{ExportTrusted, ExportNone, ExportSensitive}).Draw(t, "exportability")
	for i := range rapid.IntRange(0, 5).Draw(t, "blocks") {
		n := rapid.SampledFrom([]int{0, 1, 3, 4, 10, 251, 252, 300}).Draw(t, "length")
		h.Optional = append(h.Optional, Optional{fmt.Sprintf("%c%d", 'A'+i, i), strings.Repeat("~", n)})
	}
	return h
}

// What Wrap writes, Unwrap reads: the header, the key, the padding; and what Unwrap read, Wrap writes again.
func TestRoundTrip(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		h := drawHeader(t)
		c := rapid.SampledFrom([]Cipher{CipherTDES2, CipherTDES3, CipherAES128, CipherAES192, CipherAES256}).Filter(func(c Cipher) bool {
			return c.Version() == h.Version
		}).Draw(t, "cipher")
		size := rapid.SampledFrom(h.Algorithm.keySizes()).Draw(t, "size")
		if h.Algorithm == AlgorithmAES {
			size = min(size, c.KeySize())
		}
		draw := func(n int, name string) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name) }
		kbpk := secret.Take(rapid.SliceOfN(rapid.Byte(), c.KeySize(), c.KeySize()).Filter(func(b []byte) bool {
			return c.Version() == VersionD || !repeats(b)
		}).Draw(t, "kbpk"))
		key := secret.Copy(draw(size, "key"))
		defer kbpk.Wipe()
		defer key.Wipe()
		p, err := InMemory(c, kbpk)
		require.NoError(t, err)
		padding := draw(PaddingSize(h.Version, h.Algorithm, size), "padding")
		text, err := Wrap(ctx, p, h, key, padding)
		require.NoError(t, err)
		longest := slices.Max(h.Algorithm.keySizes())
		require.Equal(t, PaddingSize(h.Version, h.Algorithm, longest), len(padding)+size-longest, "every key of an algorithm has one length")

		u, err := Unwrap(ctx, p, text)
		require.NoError(t, err)
		defer u.Wipe()
		require.True(t, key.Equal(u.Key))
		require.Equal(t, padding, u.Padding.Reveal("test"))
		read := u.Header
		read.Pad = ""
		require.Equal(t, h, read)
		again, err := Wrap(ctx, p, u.Header, u.Key, u.Padding.Reveal("test"))
		require.NoError(t, err)
		require.Equal(t, text, again)
	})
}

// FuzzParse: no text makes Parse panic, and what it takes is what its header and its bytes are written as.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		b, err := Parse(text)
		if err != nil {
			return
		}
		assert.Equal(t, text, b.String())
		head, err := b.Header.write(len(b.payload))
		require.NoError(t, err)
		assert.Equal(t, text, string(head)+upperHex(b.payload)+upperHex(b.mac))
	})
}

// A fuzz target that starts from nothing tests nothing in a short run.
func TestFuzzParseHasSeeds(t *testing.T) {
	seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", "FuzzParse"))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(seeds), 8)
}

// No error, no value printed in any way, shows the key.
func TestNothingPrintsTheKey(t *testing.T) {
	v := ownVectors(t)[0]
	_, u, err := UnwrapPurse(context.Background(), v.protector(t), v.Block)
	require.NoError(t, err)
	defer u.Wipe()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d"} {
		for _, value := range []any{u, *u, v.protector(t)} {
			out := strings.ToUpper(fmt.Sprintf(verb, value))
			assert.NotContains(t, out, v.Key, verb)
			assert.NotContains(t, out, v.KBPK, verb)
			assert.NotContains(t, out, "64 65 66 67", verb)
			assert.NotContains(t, out, v.Padding, verb)
		}
	}
}

func TestParity(t *testing.T) {
	for digits, want := range map[string]Parity{
		"01020408102040800101010101010101": ParityOdd,
		"00030506090A0C0F1111111111111111": ParityEven,
		"01020408102040800101010101010100": ParityNone,
		"0123456789ABCDEFFEDCBA9876543210": ParityOdd,
	} {
		assert.Equal(t, want, parityOf(unhex(t, digits)), digits)
	}
	assert.Equal(t, "odd", ParityOdd.String())
	assert.Contains(t, Parity(0).String(), "invalid")
}
