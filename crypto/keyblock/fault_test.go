package keyblock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/cmac"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// TR-31:2018 A.7.3.2 and X9.143:2021 8.1, which the vectors have with their source.
const (
	goodB = "B0104B0TX12S0100KS1800604B120F9292800000BB68BE8680A400D9191AD4ECE45B6E6C0D21C4738A52190E248719E24B433627"
	keyB  = "1D22BF32387C600AD97F9B97A51311AC"
	goodD = "D0144P0AE00E00002C77FA3F4A553BED6E88AE5C172A4166E3D4ACA8E2AC71C158A476FAC12C13C3829DE55D3AB54C48F4C4FEF7AC75E90FC47F1B77E7B19A73ED46E64410082557"
	keyD  = "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6"
)

// set writes over a text at a place.
func set(text string, at int, with string) string { return text[:at] + with + text[at+len(with):] }

// relength makes the length of a text right again.
func relength(text string) string { return set(text, 1, fmt.Sprintf("%04d", len(text))) }

func with(optional, count string) string {
	return relength(set(goodB[:16], 12, count) + optional + goodB[40:])
}

// Every fault of the form, with the field and the place that the error names.
func TestFaultsOfTheText(t *testing.T) {
	require.Equal(t, 104, len(goodB))
	for _, c := range []struct {
		name, text string
		field      Field
		at         int
	}{
		{"nothing", "", FieldLength, 0},
		{"a header cut short", goodB[:15], FieldLength, 0},
		{"a header alone", relength(goodD[:16]), FieldPayload, 16},
		{"not ASCII", set(goodB, 30, "\xC3"), FieldText, 30},
		{"a control character", set(goodB, 103, "\n"), FieldText, 103},
		{"a newline behind it", goodB + "\n", FieldText, 104},
		{"version A", set(goodB, 0, "A"), FieldVersion, 0},
		{"version C", set(goodB, 0, "C"), FieldVersion, 0},
		{"version E", set(goodB, 0, "E"), FieldVersion, 0},
		{"version b", set(goodB, 0, "b"), FieldVersion, 0},
		{"somebody's own version", set(goodB, 0, "0"), FieldVersion, 0},
		{"a length in hex", set(goodB, 1, "00A4"), FieldLength, 1},
		{"a length with a sign", set(goodB, 1, "+104"), FieldLength, 1},
		{"a length with a space", set(goodB, 1, " 104"), FieldLength, 1},
		{"a length that is too short", set(goodB, 1, "0096"), FieldLength, 1},
		{"a length that is too long", set(goodB, 1, "0112"), FieldLength, 1},
		{"a block cut short", goodB[:96], FieldLength, 1},
		{"two blocks", goodB + goodB, FieldLength, 1},
		{"no multiple", relength(goodB + "00"), FieldLength, 1},
		{"no multiple of version D", relength(goodD + "00000000"), FieldLength, 1},
		{"an unknown usage", set(goodB, 5, "Z9"), FieldUsage, 5},
		{"a usage of asymmetric keys", set(goodB, 5, "S0"), FieldUsage, 5},
		{"somebody's own usage", set(goodB, 5, "10"), FieldUsage, 5},
		{"single DES", set(goodB, 7, "D"), FieldAlgorithm, 7},
		{"RSA", set(goodD, 7, "R"), FieldAlgorithm, 7},
		{"somebody's own algorithm", set(goodD, 7, "5"), FieldAlgorithm, 7},
		{"a 4 without our block", set(set(goodD, 5, "E6"), 7, "4X"), FieldAlgorithm, 7},
		{"AES under 3DES", set(goodB, 7, "A"), FieldAlgorithm, 7},
		{"a mode that the usage does not have", set(goodB, 8, "E"), FieldMode, 8},
		{"a PIN key that derives", set(goodD, 8, "X"), FieldMode, 8},
		{"a purse master without restrictions", set(goodD, 5, "E6AN"), FieldMode, 8},
		{"somebody's own mode", set(goodD, 8, "1"), FieldMode, 8},
		{"a key version in small letters", set(goodD, 9, "a1"), FieldKeyVersion, 9},
		{"a component of no number", set(goodD, 9, "cx"), FieldKeyVersion, 9},
		{"an unknown exportability", set(goodD, 11, "X"), FieldExportability, 11},
		{"a count in hex", set(goodD, 12, "0A"), FieldOptionalCount, 12},
		{"a key of a context", set(goodD, 14, "10"), FieldReserved, 14},
		{"a reserved field that is used", set(goodD, 14, "01"), FieldReserved, 14},
		{"fewer blocks than counted", set(goodB, 12, "02"), FieldOptionalLength, 42},
		{"99 blocks, none there", set(goodD, 12, "99"), FieldOptionalLength, 137},
		{"an id in small letters", set(goodB, 16, "ks"), FieldOptionalID, 16},
		{"a length that is no hex", set(goodB, 18, "1G"), FieldOptionalLength, 18},
		{"a length in small letters", with("LB0aLABEL0PB0E0000000000", "02"), FieldOptionalLength, 18},
		{"a length shorter than its head", set(goodB, 18, "03"), FieldOptionalLength, 18},
		{"a length beyond the end", set(goodB, 18, "FF"), FieldOptionalLength, 18},
		{"a long form cut short", set(goodB[:104-18], 18, "0002"), FieldLength, 1},
		{"a long form of another kind", set(goodB, 18, "0001"), FieldOptionalLength, 18},
		{"a long form without need", with("LB0002001200000000PB0600", "02"), FieldOptionalLength, 22},
		{"a long form beyond the end", with("LB00020FFF00000000000000", "01"), FieldOptionalLength, 22},
		{"one id twice", with("LB08TEXTLB08TEXTLB08TEXT", "03"), FieldOptionalID, 24},
		{"PB in the middle", with("PB08AAAALB08TEXTLC08TEXT", "03"), FieldPadBlock, 16},
		{"PB without need", with("LB10TEXTTEXTTEXTPB08AAAA", "02"), FieldPadBlock, 32},
		{"PB that is too long", with("LB0CTEXTTEXTPB0C00000000", "02"), FieldPadBlock, 28},
		{"the end of the text for a block", relength(set(goodB[:40], 12, "02")), FieldOptionalID, 40},
		{"a header of no whole blocks", with("LB0CTEXTTEXT000000000000", "01"), FieldPadBlock, 28},
		{"a payload in small letters", set(goodD, 16, "2c"), FieldPayload, 17},
		{"a payload that is no hex", set(goodD, 40, "G"), FieldPayload, 40},
		{"a MAC in small letters", set(goodD, 140, "a"), FieldMAC, 140},
		{"a MAC that is no hex", set(goodD, 143, " "), FieldMAC, 143},
		{"no payload", relength(goodD[:16] + goodD[112:]), FieldPayload, 16},
		{"a payload shorter than a key", relength(goodD[:48] + goodD[112:]), FieldPayload, 16},
		{"a payload of half a block", relength(goodD[:96] + goodD[112:]), FieldPayload, 16},
	} {
		_, err := Parse(c.text)
		var field *FieldError
		if assert.ErrorAs(t, err, &field, c.name) {
			assert.Equal(t, c.field, field.Field, "%s: %v", c.name, err)
			assert.Equal(t, c.at, field.At, "%s: %v", c.name, err)
			assert.Contains(t, err.Error(), "expected ", c.name)
		}
	}
}

// The same faults of a header that is to be written.
func TestFaultsOfAHeader(t *testing.T) {
	ctx := context.Background()
	p := protectorOf(t, VersionD, keyD)
	good := Header{Version: VersionD, Usage: "P0", Algorithm: AlgorithmAES, Mode: 'E', KeyVersion: "00", Exportability: ExportTrusted}
	key := secretOf(t, "3F419E1CB7079442AA37474C2EFBF8B8")
	_, err := Wrap(ctx, p, good, key, make([]byte, 14))
	require.NoError(t, err)
	_, err = Wrap(ctx, p, Header{}, key, make([]byte, 14))
	require.Error(t, err, "the zero header")
	for _, c := range []struct {
		name   string
		change func(h *Header)
		field  Field
	}{
		{"version", func(h *Header) { h.Version = 'A' }, FieldVersion},
		{"usage", func(h *Header) { h.Usage = "ZZ" }, FieldUsage},
		{"a long usage", func(h *Header) { h.Usage = "P00" }, FieldUsage},
		{"algorithm", func(h *Header) { h.Algorithm = 'E' }, FieldAlgorithm},
		{"mode", func(h *Header) { h.Mode = 'S' }, FieldMode},
		{"no mode", func(h *Header) { h.Mode = 0 }, FieldMode},
		{"key version", func(h *Header) { h.KeyVersion = "1" }, FieldKeyVersion},
		{"exportability", func(h *Header) { h.Exportability = 0 }, FieldExportability},
		{"an id", func(h *Header) { h.Optional = []Optional{{"L", ""}} }, FieldOptionalID},
		{"PB by hand", func(h *Header) { h.Optional = []Optional{{"PB", "0000"}} }, FieldOptionalID},
		{"twice", func(h *Header) { h.Optional = []Optional{{"LB", "a"}, {"LB", "b"}} }, FieldOptionalID},
		{"data", func(h *Header) { h.Optional = []Optional{{"LB", "a\tb"}} }, FieldOptionalData},
		{"too many", func(h *Header) { h.Optional = make([]Optional, 100) }, FieldOptionalCount},
		{"too long", func(h *Header) { h.Optional = []Optional{{"LB", strings.Repeat("x", 9900)}} }, FieldLength},
		{"a pad of another length", func(h *Header) { h.Optional, h.Pad = []Optional{{"LB", "1234"}}, "000" }, FieldPadBlock},
		{"a pad without need", func(h *Header) { h.Pad = "0000" }, FieldPadBlock},
		{"a pad that does not print", func(h *Header) { h.Optional, h.Pad = []Optional{{"LB", "1234"}}, "000\x00" }, FieldPadBlock},
	} {
		h := good
		c.change(&h)
		_, err := Wrap(ctx, p, h, key, make([]byte, 14))
		var field *FieldError
		if assert.ErrorAs(t, err, &field, c.name) {
			assert.Equal(t, c.field, field.Field, "%s: %v", c.name, err)
		}
	}
	for _, n := range []int{0, 13, 15} {
		_, err := Wrap(ctx, p, good, key, make([]byte, n))
		var field *FieldError
		require.ErrorAs(t, err, &field)
		assert.Equal(t, FieldPadding, field.Field)
	}
	for _, n := range []int{0, 8, 15, 17, 33} {
		other := secret.New(n)
		_, err := Wrap(ctx, p, good, other, make([]byte, 14))
		other.Wipe()
		var field *FieldError
		require.ErrorAs(t, err, &field)
		assert.Equal(t, FieldKeyLength, field.Field)
	}
	ids := good
	for i := range 99 {
		ids.Optional = append(ids.Optional, Optional{ID: fmt.Sprintf("%02d", i)})
	}
	_, err = Wrap(ctx, p, ids, key, make([]byte, 14))
	var field *FieldError
	require.ErrorAs(t, err, &field)
	assert.Equal(t, FieldOptionalCount, field.Field, "PB would be the hundredth")
}

// A key that is stronger than what protects it.
func TestAES256UnderAES128(t *testing.T) {
	h := Header{Version: VersionD, Usage: "D0", Algorithm: AlgorithmAES, Mode: 'B', KeyVersion: "00", Exportability: ExportNone}
	key := secret.New(32)
	defer key.Wipe()
	strong, err := Wrap(context.Background(), protectorOf(t, VersionD, keyD), h, key, make([]byte, 14))
	require.NoError(t, err)
	assert.Len(t, strong, 144)
	_, err = Wrap(context.Background(), protectorOf(t, VersionD, keyD[:32]), h, key, make([]byte, 14))
	var field *FieldError
	require.ErrorAs(t, err, &field)
	assert.Equal(t, FieldKeyLength, field.Field)
	assert.Contains(t, err.Error(), "protection key")
}

// One digit or one bit changed anywhere is a wrong MAC, or a fault of the form; and so is another protection key.
func TestAnyChangeIsRefused(t *testing.T) {
	ctx := context.Background()
	for text, digits := range map[string]string{goodB: keyB, goodD: keyD} {
		p := protectorOf(t, Version(text[0]), digits)
		macs := 0
		for at := range len(text) {
			for _, c := range "0123456789ABCDEFNSTX" {
				if rune(text[at]) == c {
					continue
				}
				u, err := Unwrap(ctx, p, set(text, at, string(c)))
				var field *FieldError
				if errors.Is(err, ErrMAC) {
					macs++
				} else {
					require.ErrorAs(t, err, &field, "%c at %d", c, at)
				}
				require.Nil(t, u)
			}
		}
		assert.Greater(t, macs, 15*64)
		_, err := Unwrap(ctx, protectorOf(t, Version(text[0]), set(digits, 1, "F")), text)
		require.ErrorIs(t, err, ErrMAC)
	}
}

// A protection key of the wrong cipher, length or strength, and an engine that fails or answers nonsense.
func TestProtectorsRefused(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		cipher Cipher
		digits string
	}{
		{0, keyB}, {99, keyB}, {CipherTDES2, keyB[:16]}, {CipherTDES3, keyB}, {CipherAES128, keyD}, {CipherAES256, keyB}, {CipherAES192, ""},
		{CipherTDES2, keyB[:16] + keyB[:16]}, {CipherTDES2, "01010101010101010000000000000000"},
		{CipherTDES3, keyB[:16] + keyB[:16] + keyB[16:]}, {CipherTDES3, keyB[:16] + keyB[16:] + keyB[16:]},
	} {
		_, err := InMemory(c.cipher, secretOf(t, c.digits))
		require.ErrorIs(t, err, ErrProtector, "%v %s", c.cipher, c.digits)
	}
	_, err := Unwrap(ctx, protectorOf(t, VersionB, keyB), goodD)
	require.ErrorIs(t, err, ErrProtector)
	_, err = Unwrap(ctx, protectorOf(t, VersionD, keyD), goodB)
	require.ErrorIs(t, err, ErrProtector)
	_, err = Unwrap(ctx, nil, goodB)
	require.ErrorIs(t, err, ErrProtector)

	away := fmt.Errorf("away")
	_, err = Unwrap(ctx, broken{protectorOf(t, VersionD, keyD), away, 0}, goodD)
	require.ErrorIs(t, err, away)
	_, err = Unwrap(ctx, broken{protectorOf(t, VersionD, keyD), nil, 8}, goodD)
	require.ErrorIs(t, err, ErrProtector, "half a CMAC")
	_, err = Unwrap(ctx, broken{protectorOf(t, VersionD, keyD), nil, 0}, goodD)
	require.ErrorIs(t, err, ErrProtector, "no CMAC")
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = Unwrap(over, protectorOf(t, VersionD, keyD), goodD)
	require.ErrorIs(t, err, context.Canceled)
}

type broken struct {
	Protector
	err error
	n   int
}

func (b broken) CMAC(context.Context, []byte) (secret.Bytes, error) { return secret.New(b.n), b.err }

// A payload that lies, under a right MAC: made here, for only the holder of the protection key can.
func TestLiesUnderARightMAC(t *testing.T) {
	ctx := context.Background()
	p := protectorOf(t, VersionD, keyD)
	w, err := derive(ctx, p, VersionD)
	require.NoError(t, err)
	for name, bits := range map[string]uint16{
		"no bits": 0, "a bit": 1, "a bit more than a key": 129, "no whole bytes": 127, "short of AES": 120, "single DES": 64, "beyond the payload": 256, "all": 0xFFFF, "a long key": 320,
	} {
		head := []byte("D0112P0AE00E0000")
		payload := make([]byte, 32)
		payload[0], payload[1] = byte(bits>>8), byte(bits)
		mac := cmac.Sum(w.authentication, append(append([]byte(nil), head...), payload...))
		cbc(w, mac, payload)
		_, err = Unwrap(ctx, p, string(head)+upperHex(payload)+upperHex(mac))
		var field *FieldError
		require.ErrorAs(t, err, &field, name)
		assert.Equal(t, FieldKeyLength, field.Field, name)
		assert.Equal(t, -1, field.At)
	}
}
