package keyblock

import (
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// ownVector is one of testdata/own.json, which another program computed: its provenance is in the file.
type ownVector struct {
	Cipher, KBPK, KBEK, KBAK, Key, Padding, Kind, Check, Block string
	KVER                                                       byte
	Algorithm                                                  suite.Algorithm
}

func ownVectors(t testing.TB) []ownVector {
	t.Helper()
	text, err := os.ReadFile("testdata/own.json")
	require.NoError(t, err)
	var file struct {
		Provenance string
		Vectors    []ownVector
	}
	require.NoError(t, json.Unmarshal(text, &file))
	require.Contains(t, file.Provenance, "own.py")
	require.Len(t, file.Vectors, 16)
	return file.Vectors
}

func (v ownVector) purse(t testing.TB) Purse {
	t.Helper()
	check, err := kcv.Parse(v.Check)
	require.NoError(t, err)
	return Purse{Kind: v.Kind, KVER: v.KVER, Algorithm: v.Algorithm, Check: check}
}

func (v ownVector) protector(t testing.TB) Protector {
	t.Helper()
	return protectorOf(t, Version(v.Block[0]), v.KBPK)
}

// Purse masters under every cipher of a protection key: the derived keys, the text, and back.
func TestPurseVectors(t *testing.T) {
	ctx := context.Background()
	ciphers := map[string]bool{}
	for _, v := range ownVectors(t) {
		p := v.protector(t)
		assert.Equal(t, v.Cipher, p.Cipher().String())
		ciphers[v.Cipher] = true
		for purpose, want := range []string{v.KBEK, v.KBAK} {
			key, err := deriveKey(ctx, p, uint16(purpose))
			require.NoError(t, err)
			assert.Equal(t, unhex(t, want), key.Reveal("test"), "%s, purpose %d", v.Cipher, purpose)
			key.Wipe()
		}
		h, err := v.purse(t).Header(p.Cipher().Version())
		require.NoError(t, err)
		block, err := Wrap(ctx, p, h, secretOf(t, v.Key), unhex(t, v.Padding))
		require.NoError(t, err)
		assert.Equal(t, v.Block, block)

		purse, u, err := UnwrapPurse(ctx, p, v.Block)
		require.NoError(t, err)
		assert.Equal(t, v.purse(t), purse)
		assert.Equal(t, unhex(t, v.Key), u.Key.Reveal("test"))
		if v.Algorithm == suite.TDES {
			assert.Equal(t, ParityNone, u.Parity)
		} else {
			assert.Equal(t, notDES, u.Parity)
		}
		u.Wipe()
	}
	assert.Len(t, ciphers, 5)
}

// What a purse's block must be, changed one thing at a time: right key blocks all, and no purse master's, or none at all.
func TestNotAPurse(t *testing.T) {
	ctx := context.Background()
	for _, v := range ownVectors(t) {
		p := v.protector(t)
		right, err := v.purse(t).Header(p.Cipher().Version())
		require.NoError(t, err)
		own := right.Optional[0].Data
		for name, change := range map[string]func(h *Header){
			"another usage":         func(h *Header) { h.Usage = "E5" },
			"another mode":          func(h *Header) { h.Usage, h.Mode = "D0", 'E' },
			"a key version":         func(h *Header) { h.KeyVersion = "01" },
			"exportable":            func(h *Header) { h.Exportability = ExportTrusted },
			"no own block":          func(h *Header) { h.Optional = h.Optional[1:] },
			"no check value":        func(h *Header) { h.Optional = h.Optional[:1] },
			"the other order":       func(h *Header) { h.Optional[0], h.Optional[1] = h.Optional[1], h.Optional[0] },
			"one block more":        func(h *Header) { h.Optional = append(h.Optional, Optional{"LB", "label"}) },
			"another's 70":          func(h *Header) { h.Optional[0].Data = "XK1" + own[3:] },
			"a later form":          func(h *Header) { h.Optional[0].Data = "PK2" + own[3:] },
			"another algorithm":     func(h *Header) { h.Optional[0].Data = "PK1A" + own[4:] },
			"KVER in small letters": func(h *Header) { h.Optional[0].Data = own[:4] + "0a" + own[6:] },
			"no kind":               func(h *Header) { h.Optional[0].Data = own[:6] },
			"a kind in capitals":    func(h *Header) { h.Optional[0].Data = own[:6] + "LOAD" },
			"a kind without end":    func(h *Header) { h.Optional[0].Data = own[:6] + "load-load-load-load-load-load-load-load" },
			"CMAC's check value":    func(h *Header) { h.Optional[1].Data = "01" + v.Check },
			"a long check value":    func(h *Header) { h.Optional[1].Data += "00" },
		} {
			h := right
			h.Optional = append([]Optional(nil), right.Optional...)
			change(&h)
			block, err := Wrap(ctx, p, h, secretOf(t, v.Key), unhex(t, v.Padding))
			if v.Algorithm == suite.SM4 {
				var field *FieldError
				require.ErrorAs(t, err, &field, name)
				assert.Equal(t, FieldAlgorithm, field.Field, name)
				continue
			}
			require.NoError(t, err, name)
			_, _, err = UnwrapPurse(ctx, p, block)
			assert.ErrorIs(t, err, ErrNoPurse, name)
		}
	}
}

func TestPurseHeaderRefuses(t *testing.T) {
	good := Purse{Kind: "load", KVER: 1, Algorithm: suite.SM4}
	_, err := good.Header(VersionD)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change  func(p *Purse)
		version Version
		want    Field
	}{
		"SM4 under 3DES": {func(*Purse) {}, VersionB, FieldAlgorithm},
		"no algorithm":   {func(p *Purse) { p.Algorithm = 0 }, VersionD, FieldAlgorithm},
		"no kind":        {func(p *Purse) { p.Kind = "" }, VersionD, FieldOptionalData},
		"no name":        {func(p *Purse) { p.Kind = "pin unblock" }, VersionD, FieldOptionalData},
		"no version":     {func(*Purse) {}, 0, FieldVersion},
		"variants":       {func(*Purse) {}, 'C', FieldVersion},
	} {
		p := good
		c.change(&p)
		_, err := p.Header(c.version)
		var field *FieldError
		require.ErrorAs(t, err, &field, name)
		assert.Equal(t, c.want, field.Field, name)
	}
}

// A block that names one key and holds another, and one that holds a key of another length.
func TestTheKeyIsTheHeaders(t *testing.T) {
	ctx := context.Background()
	v := ownVectors(t)[0]
	p, purse := v.protector(t), v.purse(t)
	purse.Check[2] ^= 1
	h, err := purse.Header(VersionB)
	require.NoError(t, err)
	block, err := Wrap(ctx, p, h, secretOf(t, v.Key), unhex(t, v.Padding))
	require.NoError(t, err)
	_, _, err = UnwrapPurse(ctx, p, block)
	require.ErrorIs(t, err, ErrCheckValue)

	three := secret.Take(unhex(t, v.Key+"5051525354555657"))
	defer three.Wipe()
	block, err = Wrap(ctx, p, h, three, make([]byte, 6))
	require.NoError(t, err)
	_, _, err = UnwrapPurse(ctx, p, block)
	var field *FieldError
	require.ErrorAs(t, err, &field)
	assert.Equal(t, FieldKeyLength, field.Field)
}
