package keyblock

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // X9.143 version B
	"encoding/binary"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/cmac"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// Cipher is that of a key block protection key. The zero value is invalid.
type Cipher uint8

// The ciphers: two and three keys of 3DES for version B, AES for version D.
const (
	CipherTDES2 Cipher = iota + 1
	CipherTDES3
	CipherAES128
	CipherAES192
	CipherAES256
)

// ciphers are what X9.143 writes of each into the data that derive its keys.
var ciphers = [...]struct {
	name      string
	version   Version
	keySize   int
	indicator uint16
}{
	CipherTDES2:  {"3DES, 2 keys", VersionB, 16, 0},
	CipherTDES3:  {"3DES, 3 keys", VersionB, 24, 1},
	CipherAES128: {"AES-128", VersionD, 16, 2},
	CipherAES192: {"AES-192", VersionD, 24, 3},
	CipherAES256: {"AES-256", VersionD, 32, 4},
}

// Valid reports whether c is one of the ciphers.
func (c Cipher) Valid() bool { return c >= CipherTDES2 && int(c) < len(ciphers) }

// String is a name for errors and logs, such as "AES-256".
func (c Cipher) String() string {
	if c.Valid() {
		return ciphers[c].name
	}
	return fmt.Sprintf("invalid cipher %d", uint8(c))
}

// Version is the one version of key blocks that a key of this cipher protects; 0 of an invalid cipher.
func (c Cipher) Version() Version {
	if c.Valid() {
		return ciphers[c].version
	}
	return 0
}

// KeySize is the length of a key in bytes; 0 of an invalid cipher.
func (c Cipher) KeySize() int {
	if c.Valid() {
		return ciphers[c].keySize
	}
	return 0
}

// open opens the cipher under a key of KeySize.
func (c Cipher) open(key []byte) (cipher.Block, error) {
	switch c {
	case CipherTDES2:
		var ede [24]byte // on this stack frame, wiped below; the library copies it into its schedule
		copy(ede[:], key)
		copy(ede[16:], key[:8])
		defer clear(ede[:])
		return des.NewTripleDESCipher(ede[:])
	case CipherTDES3:
		return des.NewTripleDESCipher(key)
	case CipherAES128, CipherAES192, CipherAES256:
		return aes.NewCipher(key)
	}
	return nil, fmt.Errorf("%w: %v", ErrProtector, c)
}

// Protector is a key block protection key (KBPK) inside an engine.
//
// An implementer owes three duties: the CMAC is whole, one block of the cipher, and right, or an error; it lies in locked memory that the
// caller wipes, for it is a part of a key; and the key's bytes are in no error.
type Protector interface {
	// Cipher is the key's, which no caller can change.
	Cipher() Cipher

	// CMAC is that of a message under the key (NIST SP 800-38B).
	CMAC(ctx context.Context, message []byte) (secret.Bytes, error)
}

// InMemory is the engine of a protection key held as bytes: for tests, and for parties that have no token. key stays the caller's, who
// wipes it after the last use. A 3DES key of fewer keys than its length says is refused.
func InMemory(c Cipher, key secret.Bytes) (Protector, error) {
	if !c.Valid() || key.Len() != c.KeySize() {
		return nil, fmt.Errorf("%w: %v: %d bytes, expected %d", ErrProtector, c, key.Len(), c.KeySize())
	}
	if c.Version() == VersionB && repeats(key.Reveal("to refuse single DES")) {
		return nil, fmt.Errorf("%w: %v: two of its keys are equal", ErrProtector, c)
	}
	return memoryProtector{c, key}, nil
}

type memoryProtector struct {
	cipher Cipher
	key    secret.Bytes
}

func (p memoryProtector) Cipher() Cipher { return p.cipher }

func (p memoryProtector) CMAC(ctx context.Context, message []byte) (secret.Bytes, error) {
	if err := ctx.Err(); err != nil {
		return secret.Bytes{}, err
	}
	block, err := p.cipher.open(p.key.Reveal("to compute a CMAC in memory"))
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.Take(cmac.Sum(block, message)), nil
}

// repeats says whether two neighbouring DES keys are equal but for their parity, in constant time.
func repeats(key []byte) bool {
	found := false
	for at := 8; at < len(key); at += 8 {
		difference := byte(0)
		for i := range 8 {
			difference |= (key[at-8+i] ^ key[at+i]) & 0xFE
		}
		found = found || difference == 0
	}
	return found
}

// What a derived key is for, as X9.143 writes it.
const (
	forEncryption     = 0
	forAuthentication = 1
)

// deriveKey makes KBEK or KBAK, of the cipher and length of the protection key, in locked memory that the caller wipes. It is the CMACs,
// one after the other and cut to the length, of
//
//	0  1  counter from 1
//	1  2  what the key is for: 0 encryption, 1 authentication
//	3  1  0
//	4  2  its cipher: 0 two-key 3DES, 1 three-key, 2 AES-128, 3 AES-192, 4 AES-256
//	6  2  its length in bits
func deriveKey(ctx context.Context, p Protector, purpose uint16) (secret.Bytes, error) {
	c := p.Cipher()
	key := secret.New(c.KeySize())
	out := key.Reveal("to receive a derived key")
	var data [8]byte
	binary.BigEndian.PutUint16(data[1:], purpose)
	binary.BigEndian.PutUint16(data[4:], ciphers[c].indicator)
	binary.BigEndian.PutUint16(data[6:], uint16(8*c.KeySize()))
	for len(out) > 0 {
		data[0]++
		part, err := p.CMAC(ctx, data[:])
		if err == nil && part.Len() != c.Version().blockSize() {
			err = fmt.Errorf("%w: a CMAC of %d bytes, expected %d", ErrProtector, part.Len(), c.Version().blockSize())
		}
		if err != nil {
			part.Wipe()
			key.Wipe()
			return secret.Bytes{}, err
		}
		out = out[copy(out, part.Reveal("to make a derived key of it")):]
		part.Wipe()
	}
	return key, nil
}

// working are the two keys that do the work on one block, opened.
type working struct{ encryption, authentication cipher.Block }

// derive makes them for a block of a version; their bytes are wiped, and their schedules are collected (package comment).
func derive(ctx context.Context, p Protector, v Version) (w working, err error) {
	if p == nil || p.Cipher().Version() != v {
		return w, fmt.Errorf("%w: it protects no block of version %c", ErrProtector, v)
	}
	for purpose, block := range []*cipher.Block{forEncryption: &w.encryption, forAuthentication: &w.authentication} {
		key, err := deriveKey(ctx, p, uint16(purpose))
		if err != nil {
			return working{}, err
		}
		*block, err = p.Cipher().open(key.Reveal("to open its cipher"))
		key.Wipe()
		if err != nil {
			return working{}, err
		}
	}
	return w, nil
}

// CheckValue is that of a protection key, as the payment world writes it: of AES the first three bytes of the CMAC of a block of zeros
// (X9.24-1, which takes five), of 3DES those of an encrypted block of zeros. It refuses what InMemory refuses.
func CheckValue(c Cipher, key secret.Bytes) (v kcv.Value, err error) {
	if _, err := InMemory(c, key); err != nil {
		return v, err
	}
	block, err := c.open(key.Reveal("to compute its check value"))
	if err != nil {
		return v, err
	}
	if c.Version() == VersionB {
		return kcv.Of(block), nil
	}
	return kcv.Value(cmac.Sum(block, make([]byte, block.BlockSize()))[:kcv.Size]), nil
}
