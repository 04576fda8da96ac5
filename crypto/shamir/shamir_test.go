package shamir

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	require.NoError(t, err)
	return b
}

// FIPS 197, §4.2: the products of its examples, and 1/53 of the textbooks.
func TestFieldOfAES(t *testing.T) {
	for _, c := range []struct{ a, b, want byte }{{0x57, 0x83, 0xC1}, {0x57, 0x13, 0xFE}, {0x57, 0x10, 0x07}, {0x53, 0xCA, 0x01}} {
		assert.Equal(t, c.want, mul(c.a, c.b))
		assert.Equal(t, c.want, mul(c.b, c.a))
	}
	for a := range 256 {
		assert.Equal(t, byte(min(a, 1)), mul(byte(a), inverse(byte(a))), "%02X", a)
	}
}

// draft-mcgrew-tss-03, §9: "test" and a zero byte, split in two, by the same field and interpolation.
func TestPublishedInterpolation(t *testing.T) {
	shares := []Share{{value: secret.Copy(unhex(t, "B9FA07E185"))}, {value: secret.Copy(unhex(t, "F5409B4511"))}}
	out := make([]byte, 5)
	interpolate([]byte{1, 2}, shares, out)
	assert.Equal(t, "test\x00", string(out))
}

type vector struct {
	Threshold, Count int
	Secret, Random   string
	Shares           []string
}

// vectors are testdata/shares.json, which another program computed: its provenance is in the file.
func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/shares.json")
	require.NoError(t, err)
	var file struct {
		Provenance string
		Vectors    []vector
	}
	require.NoError(t, json.Unmarshal(text, &file))
	require.Contains(t, file.Provenance, "shares.py")
	require.Len(t, file.Vectors, 6)
	return file.Vectors
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		key := secret.Take(unhex(t, v.Secret))
		shares, err := Split(bytes.NewReader(unhex(t, v.Random)), key, v.Threshold, v.Count)
		require.NoError(t, err)
		require.Len(t, shares, v.Count)
		var read []Share
		for i, want := range v.Shares {
			at := i
			if i >= 2 && len(v.Shares) < v.Count {
				at = v.Count - len(v.Shares) + i // the file has the last two of many
			}
			text := shares[at].Encode()
			assert.Equal(t, want, string(text.Reveal("test")))
			s, err := Parse([]byte(want))
			require.NoError(t, err)
			assert.Equal(t, shares[at].String(), s.String())
			read = append(read, s)
		}
		if len(read) > v.Threshold {
			read = read[len(read)-v.Threshold:]
		}
		made, err := Combine(read)
		require.NoError(t, err)
		assert.True(t, key.Equal(made))
		made.Wipe()
	}
}

func draw(t *rapid.T) (key []byte, shares []Share) {
	count := rapid.IntRange(2, 12).Draw(t, "count")
	threshold := rapid.IntRange(2, count).Draw(t, "threshold")
	key = rapid.SliceOfN(rapid.Byte(), minSecret, maxSecret).Draw(t, "key")
	n := 8 + (threshold-1)*(len(key)+tagSize)
	seed := rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "random")
	seed[n-1], seed[n-2] = 1, 2 // not all the same
	shares, err := Split(bytes.NewReader(seed), secret.Copy(key), threshold, count)
	require.NoError(t, err)
	return key, shares
}

// Any shares, the threshold of them or more, in any order, make the secret; one fewer are refused.
func TestAnyThresholdCombines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, shares := draw(t)
		m := shares[0].Threshold
		some := rapid.Permutation(shares).Draw(t, "order")[:rapid.IntRange(m, len(shares)).Draw(t, "how many")]
		made, err := Combine(some)
		require.NoError(t, err)
		require.Equal(t, key, made.Reveal("test"))
		_, err = Combine(some[:m-1])
		require.ErrorIs(t, err, ErrTooFew)
		for i := range shares {
			shares[i].Wipe()
		}
	})
}

// Fewer shares than the threshold say nothing: whatever the secret is, the coefficients make them take every value exactly once. All of
// it, for thresholds 2 and 3.
func TestFewerSayNothing(t *testing.T) {
	out := make([]byte, 1)
	at := func(x byte, coefficients ...byte) byte {
		evaluate(x, coefficients, out)
		return out[0]
	}
	for _, s := range []byte{0x00, 0x01, 0x53, 0xFF} {
		for _, x := range []byte{1, 2, 0x80, 0xFF} {
			seen := [256]int{}
			for c := range 256 {
				seen[at(x, s, byte(c))]++
			}
			for value, times := range seen {
				require.Equal(t, 1, times, "secret %02X, share %d is %02X", s, x, value)
			}
		}
		for _, pair := range [][2]byte{{1, 2}, {3, 0xFE}} {
			seen := [65536]int{}
			for c := range 65536 {
				one, two := at(pair[0], s, byte(c), byte(c>>8)), at(pair[1], s, byte(c), byte(c>>8))
				seen[int(one)<<8|int(two)]++
			}
			for _, times := range seen {
				require.Equal(t, 1, times, "secret %02X, shares %v", s, pair)
			}
		}
	}
}

// The same with the forged word of a smaller threshold: shares of three that claim to be of two do not make the secret.
func TestForgedShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, shares := draw(t)
		m := shares[0].Threshold
		forged := rapid.IntRange(0, m-1).Draw(t, "which")
		value := shares[forged].value.Reveal("test")
		value[rapid.IntRange(0, len(value)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		_, err := Combine(shares[:m])
		require.ErrorIs(t, err, ErrForged)
		_ = key
	})
	v := vectors(t)[2]
	require.Equal(t, 3, v.Threshold)
	var two []Share
	for _, text := range v.Shares[:2] {
		s, err := Parse([]byte(text))
		require.NoError(t, err)
		s.Threshold = 2
		two = append(two, s)
	}
	_, err := Combine(two)
	require.ErrorIs(t, err, ErrForged)
}

func split(t testing.TB, seed byte, threshold, count int) []Share {
	t.Helper()
	random := make([]byte, 1000)
	for i := range random {
		random[i] = byte(i)*7 + seed
	}
	shares, err := Split(bytes.NewReader(random), secret.New(32), threshold, count)
	require.NoError(t, err)
	return shares
}

// Shares that do not belong together are refused by name, before anything is computed of them.
func TestCombineRefuses(t *testing.T) {
	one, other := split(t, 1, 2, 3), split(t, 2, 2, 3)
	changed := func(change func(s *Share)) []Share {
		some := append([]Share(nil), one[:2]...)
		change(&some[1])
		return some
	}
	for name, c := range map[string]struct {
		shares []Share
		want   error
	}{
		"none":                {nil, ErrTooFew},
		"one":                 {one[:1], ErrTooFew},
		"one twice":           {[]Share{one[0], one[0]}, ErrDuplicate},
		"one twice of three":  {[]Share{one[0], one[1], one[0]}, ErrDuplicate},
		"two splits":          {[]Share{one[0], other[1]}, ErrOtherSet},
		"enough and another":  {[]Share{one[0], one[1], other[2]}, ErrOtherSet},
		"another threshold":   {changed(func(s *Share) { s.Threshold = 3 }), ErrOtherSet},
		"another count":       {changed(func(s *Share) { s.Count = 4 }), ErrOtherSet},
		"another length":      {changed(func(s *Share) { s.value = secret.New(24) }), ErrOtherSet},
		"a share of no index": {changed(func(s *Share) { s.Index = 0 }), ErrForm},
		"an index beyond":     {changed(func(s *Share) { s.Index = 4 }), ErrForm},
		"the zero share":      {[]Share{{}, {}}, ErrForm},
		"no value":            {changed(func(s *Share) { s.value = secret.Bytes{} }), ErrForm},
	} {
		_, err := Combine(c.shares)
		require.ErrorIs(t, err, c.want, name)
	}
}

func TestSplitRefuses(t *testing.T) {
	random := func() io.Reader { return bytes.NewReader([]byte(strings.Repeat("0123456789", 100))) }
	for _, c := range []struct{ size, threshold, count int }{
		{15, 2, 3}, {65, 2, 3}, {0, 2, 3}, {32, 1, 3}, {32, 0, 3}, {32, -1, 3}, {32, 4, 3}, {32, 2, 256}, {32, 2, 1}, {32, 0, 0},
	} {
		_, err := Split(random(), secret.New(c.size), c.threshold, c.count)
		require.ErrorContains(t, err, "split: ", "%+v", c)
	}
	for name, source := range map[string]io.Reader{
		"no bytes": bytes.NewReader(nil), "too few": bytes.NewReader(make([]byte, 47)), "the same": bytes.NewReader(bytes.Repeat([]byte{7}, 1000)),
		"zeros": bytes.NewReader(make([]byte, 1000)), "broken": iotest.ErrReader(errors.New("mine")),
	} {
		_, err := Split(source, secret.New(32), 2, 3)
		require.ErrorContains(t, err, "random bytes", name)
	}
}

// The text is read as people type: in small letters, with spaces; and any wrong letter, lost or doubled group is found out.
func TestTyping(t *testing.T) {
	for _, s := range split(t, 3, 3, 5) {
		text := string(s.Encode().Reveal("test"))
		for _, typed := range []string{strings.ToLower(text), strings.ReplaceAll(text, "-", " "), strings.ReplaceAll(text, "-", ""), " " + text + " "} {
			read, err := Parse([]byte(typed))
			require.NoError(t, err, typed)
			assert.Equal(t, s.value.Reveal("test"), read.value.Reveal("test"))
		}
		wrong := func(typed string) {
			if typed == text {
				return
			}
			_, err := Parse([]byte(typed))
			assert.True(t, errors.Is(err, ErrChecksum) || errors.Is(err, ErrForm), "%s: %v", typed, err)
			assert.NotContains(t, err.Error(), text[8:12])
		}
		for at := len(prefix) + 1; at < len(text); at++ {
			if text[at] == '-' {
				continue
			}
			for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567018!" {
				wrong(text[:at] + string(c) + text[at+1:])
			}
			wrong(text[:at] + text[at+1:])
			wrong(text[:at] + text[at:at+1] + text[at:])
			if next := at + 1; next < len(text) && text[next] != '-' && text[next] != text[at] {
				wrong(text[:at] + text[next:next+1] + text[at:at+1] + text[next+1:])
			}
		}
		for _, typed := range []string{"", "PKS", "PK", "PKT" + text[3:], text[4:], text + "AA", text + "\n", "PKS-AAAA"} {
			wrong(typed)
		}
	}
}

// A right checksum over a share that cannot be.
func TestSharesThatLie(t *testing.T) {
	s := split(t, 4, 2, 3)[1]
	whole := func(change func(b []byte) []byte) []byte {
		head := s.head()
		b := change(append(head[:], s.value.Reveal("test")...))
		sum := checksum(b)
		return append(b, sum[:]...)
	}
	_, err := read(whole(func(b []byte) []byte { return b }))
	require.NoError(t, err)
	for name, change := range map[string]func(b []byte) []byte{
		"a later form":     func(b []byte) []byte { b[0] = 2; return b },
		"threshold 1":      func(b []byte) []byte { b[9] = 1; return b },
		"threshold beyond": func(b []byte) []byte { b[9] = 4; return b },
		"index 0":          func(b []byte) []byte { b[11] = 0; return b },
		"index beyond":     func(b []byte) []byte { b[11] = 4; return b },
		"a short secret":   func(b []byte) []byte { b[12] = 15; return b },
		"another length":   func(b []byte) []byte { b[12]++; return b },
		"cut short":        func(b []byte) []byte { return b[:20] },
		"one byte more":    func(b []byte) []byte { return append(b, 0) },
	} {
		_, err := read(whole(change))
		require.ErrorIs(t, err, ErrForm, name)
	}
}

func TestNothingPrintsAShare(t *testing.T) {
	s := split(t, 5, 2, 3)[2]
	value := strings.ToUpper(hex.EncodeToString(s.value.Reveal("test")))
	text := s.Encode()
	type holder struct{ In []Share }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		for _, held := range []any{s, &s, []Share{s}, holder{[]Share{s}}, text} {
			out := strings.ToUpper(fmt.Sprintf(verb, held))
			assert.NotContains(t, out, value[:16], verb)
			assert.NotContains(t, out, string(text.Reveal("test"))[20:24], verb)
		}
	}
	out, err := json.Marshal(holder{[]Share{s}})
	require.NoError(t, err)
	assert.Contains(t, string(out), "share 3 of 3, any 2, set ")
	assert.NotContains(t, strings.ToUpper(string(out)), value[:16])
}
