package hsm

import (
	"crypto/des"
	"encoding/binary"
	"sync"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
)

// weakHalves are the four weak and twelve semi-weak DES keys (NIST SP 800-67 rev. 2 §3.3.2), with odd parity.
var weakHalves = [...]uint64{
	0x0101010101010101, 0xFEFEFEFEFEFEFEFE, 0xE0E0E0E0F1F1F1F1, 0x1F1F1F1F0E0E0E0E,
	0x011F011F010E010E, 0x1F011F010E010E01, 0x01E001E001F101F1, 0xE001E001F101F101,
	0x01FE01FE01FE01FE, 0xFE01FE01FE01FE01, 0x1FE01FE00EF10EF1, 0xE01FE01FF10EF10E,
	0x1FFE1FFE0EFE0EFE, 0xFE1FFE1FFE0EFE0E, 0xE0FEE0FEF1FEF1FE, 0xFEE0FEE0FEF1FEF1,
}

const withoutParity = 0xFEFEFEFEFEFEFEFE

// weakHalf reports whether either half of a two-key DES key is weak or semi-weak, whatever its parity bits, in constant time.
func weakHalf(key []byte) bool {
	found := uint64(0)
	for _, half := range [][]byte{key[:8], key[8:16]} {
		k := binary.BigEndian.Uint64(half) & withoutParity
		for _, weak := range weakHalves {
			d := k ^ weak&withoutParity
			found |= ^(d | -d) >> 63 // 1 where d is 0
		}
	}
	return found != 0
}

// oddParity sets the lowest bit of each byte, as DES keys have it.
func oddParity(key []byte) {
	for i, b := range key {
		ones := b >> 1
		ones ^= ones >> 4
		ones ^= ones >> 2
		ones ^= ones >> 1
		key[i] = b&0xFE | ^ones&1
	}
}

// weakCheckValues are the check values of the weak and semi-weak keys: of a half that is in the token no more is known. Another
// key has one of them by chance, 1 in a million, and is given up for another too.
var weakCheckValues = sync.OnceValue(func() map[kcv.Value]bool {
	values := map[kcv.Value]bool{}
	for _, weak := range weakHalves {
		block, err := des.NewCipher(binary.BigEndian.AppendUint64(nil, weak))
		if err != nil {
			panic("hsm: a weak key is no DES key: " + err.Error())
		}
		values[kcv.Of(block)] = true
	}
	return values
})
