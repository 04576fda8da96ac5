package keyblock

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	require.NoError(t, err)
	return b
}

func secretOf(t testing.TB, digits string) secret.Bytes {
	t.Helper()
	s := secret.Take(unhex(t, digits))
	t.Cleanup(s.Wipe)
	return s
}

// protectorOf is a protection key in memory, of the version's cipher and the length.
func protectorOf(t testing.TB, v Version, digits string) Protector {
	t.Helper()
	for c := CipherTDES2; c.Valid(); c++ {
		if c.Version() == v && 2*c.KeySize() == len(digits) {
			p, err := InMemory(c, secretOf(t, digits))
			require.NoError(t, err)
			return p
		}
	}
	t.Fatalf("no cipher of version %c has a key of %d digits", v, len(digits))
	return nil
}

type vector struct {
	Source, KBPK, Block, Key, Padding, Field, Why string
}

// published are testdata/published.json, whose provenance is in the file.
func published(t testing.TB) (accepted, refused []vector) {
	t.Helper()
	text, err := os.ReadFile("testdata/published.json")
	require.NoError(t, err)
	var file struct{ Accepted, Refused []vector }
	require.NoError(t, json.Unmarshal(text, &file))
	require.GreaterOrEqual(t, len(file.Accepted), 14, "vectors that are not there prove nothing")
	require.GreaterOrEqual(t, len(file.Refused), 7)
	return file.Accepted, file.Refused
}

// Every published block opens to its key, and is written again, to the last digit, of what was read.
func TestPublishedBlocks(t *testing.T) {
	ctx := context.Background()
	accepted, _ := published(t)
	seen := map[Version]int{}
	for _, v := range accepted {
		p := protectorOf(t, Version(v.Block[0]), v.KBPK)
		u, err := Unwrap(ctx, p, v.Block)
		if !assert.NoError(t, err, "%s: %s", v.Source, v.Block) {
			continue
		}
		assert.Equal(t, unhex(t, v.Key), u.Key.Reveal("test"), v.Source)
		if v.Padding != "" {
			assert.Equal(t, unhex(t, v.Padding), u.Padding.Reveal("test"), v.Source)
		}
		again, err := Wrap(ctx, p, u.Header, u.Key, u.Padding.Reveal("test"))
		require.NoError(t, err, v.Source)
		assert.Equal(t, v.Block, again, v.Source)
		seen[u.Header.Version]++
		u.Wipe()
	}
	assert.Len(t, seen, 2)
}

// And what the package does not take is refused by the field that is the reason.
func TestPublishedBlocksRefused(t *testing.T) {
	_, refused := published(t)
	for _, v := range refused {
		version := VersionD
		if v.Block[0] != 'D' && len(v.KBPK) < 64 {
			version = VersionB
		}
		_, err := Unwrap(context.Background(), protectorOf(t, version, v.KBPK), v.Block)
		var field *FieldError
		if v.Field == "MAC" {
			assert.ErrorIs(t, err, ErrMAC, v.Source)
		} else if assert.True(t, errors.As(err, &field), "%s: %v", v.Source, err) {
			assert.Equal(t, v.Field, field.Field.String(), v.Source)
		}
	}
}
