package softcard

import (
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/cbcmac"
	"github.com/pursekeeper/pursekeeper/crypto/retailmac"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
)

const macLen = cbcmac.Size

// keyring is the keys of a card or a module, and all that is computed under them.
type keyring struct {
	Algorithm suite.Algorithm `json:"algorithm"`
	Keys      []storedKey     `json:"testKeys"`
}

// Diversify derives a card key from a master: level after level, the root's factor first (EPURSE.md §2). It is the card
// maker's own computation, for test masters; the service's is package keyderive.
//
//	3DES: DK = E(MK,F) ‖ E(MK,~F)      SM4: DK = E(MK, F ‖ ~F)
func Diversify(alg suite.Algorithm, master KeyValue, factors ...[8]byte) (KeyValue, error) {
	key := master
	for _, factor := range factors {
		block, err := alg.New(key[:])
		if err != nil {
			return KeyValue{}, fmt.Errorf("diversify: %w", err)
		}
		key = KeyValue(encrypt(block, withInverse(factor)))
	}
	return key, nil
}

// TestOnlyMasters returns a published set of test masters, one of each kind, from which demonstration cards are made. Never
// put them where money is.
func TestOnlyMasters() map[purse.KeyKind]KeyValue {
	return map[purse.KeyKind]KeyValue{
		purse.KeyPurchase:     {0x7C, 0x6D, 0x19, 0x9E, 0x97, 0x0D, 0x6B, 0x19, 0xB5, 0xA8, 0x29, 0x5E, 0x10, 0xC1, 0x70, 0x43},
		purse.KeyLoad:         {0xF7, 0xC1, 0x73, 0x4A, 0xAB, 0xB5, 0x6E, 0x2C, 0xE6, 0xE3, 0xAE, 0x76, 0x86, 0x2F, 0xDC, 0x3B},
		purse.KeyUnload:       {0x1C, 0x80, 0xCB, 0x5E, 0x52, 0x6B, 0xA4, 0xEA, 0xCD, 0x4F, 0x34, 0x25, 0x07, 0x54, 0xF7, 0x40},
		purse.KeyOverdraft:    {0x04, 0x0D, 0x5D, 0x07, 0x38, 0x4A, 0x2A, 0xD3, 0x76, 0xD0, 0xB3, 0xA2, 0x13, 0xC7, 0x51, 0xB3},
		purse.KeyTAC:          {0x7F, 0xA7, 0x9B, 0x75, 0x45, 0x1F, 0xCD, 0xF8, 0x20, 0x73, 0x4A, 0xE3, 0x67, 0x92, 0x3E, 0x85},
		purse.KeyPINUnblock:   {0xB9, 0x83, 0x9D, 0xB9, 0x8C, 0x3D, 0x85, 0x9B, 0xC4, 0x26, 0xC7, 0x0D, 0x86, 0x7A, 0xAE, 0xB0},
		purse.KeyPINReload:    {0x1A, 0x52, 0xEF, 0xE6, 0xC7, 0x13, 0xC1, 0x32, 0x1A, 0x3E, 0x4C, 0xE9, 0x94, 0xEA, 0x0D, 0xB5},
		purse.KeyMaintenance:  {0x9E, 0x68, 0x3E, 0x5D, 0xFD, 0xAB, 0xA2, 0xDA, 0xD0, 0xBC, 0xFB, 0xFE, 0x92, 0x7A, 0x1C, 0x3E},
		purse.KeyControl:      {0x0D, 0x1E, 0x2F, 0x3C, 0x4B, 0x5A, 0x69, 0x78, 0x87, 0x96, 0xA5, 0xB4, 0xC3, 0xD2, 0xE1, 0xF0},
		purse.KeyInternalAuth: {0x2B, 0x4C, 0x6D, 0x8E, 0xA0, 0xB1, 0xC2, 0xD3, 0xE4, 0xF5, 0x06, 0x17, 0x28, 0x39, 0x4A, 0x5B},
	}
}

// TestOnlyModuleMasters is TestOnlyMasters for the keys of a reader's secure module, which its device number diversifies.
func TestOnlyModuleMasters() map[purse.KeyKind]KeyValue {
	return map[purse.KeyKind]KeyValue{
		purse.KeyReader:        {0x5D, 0x1F, 0x80, 0xC2, 0x6A, 0x33, 0x97, 0x0E, 0xB4, 0x48, 0xD9, 0x75, 0x21, 0xEC, 0x06, 0xFB},
		purse.KeyReaderControl: {0xA9, 0x62, 0x1B, 0xD4, 0x7F, 0x08, 0xC3, 0x9C, 0x55, 0xEE, 0x30, 0x87, 0x4A, 0x13, 0xFD, 0xB6},
	}
}

// CardKeys diversifies masters for one card and gives every key the same version.
func CardKeys(alg suite.Algorithm, masters map[purse.KeyKind]KeyValue, version purse.KVER, factors ...[8]byte) (map[purse.KeyKind][]Key, error) {
	keys := make(map[purse.KeyKind][]Key, len(masters))
	for kind, master := range masters {
		value, err := Diversify(alg, master, factors...)
		if err != nil {
			return nil, err
		}
		keys[kind] = []Key{{Version: version, Value: value}}
	}
	return keys, nil
}

// withInverse is F ‖ ~F.
func withInverse(f [8]byte) []byte {
	b := append(make([]byte, 0, 16), f[:]...)
	for _, v := range f {
		b = append(b, ^v)
	}
	return b
}

func encrypt(block cipher.Block, data []byte) []byte {
	out := make([]byte, len(data))
	for at := 0; at < len(data); at += block.BlockSize() {
		block.Encrypt(out[at:], data[at:])
	}
	return out
}

func decrypt(block cipher.Block, data []byte) []byte {
	out := make([]byte, len(data))
	for at := 0; at < len(data); at += block.BlockSize() {
		block.Decrypt(out[at:], data[at:])
	}
	return out
}

var errNoKey = errors.New("no such key")

// key finds the card's key of a kind by its index.
func (s *keyring) key(kind purse.KeyKind, index byte) (storedKey, error) {
	for _, key := range s.Keys {
		if key.Kind == kind && key.Index == index {
			return key, nil
		}
	}
	return storedKey{}, errNoKey
}

// firstKey is the card's key of a kind for commands that name none.
func (s *keyring) firstKey(kind purse.KeyKind) (storedKey, error) {
	for _, key := range s.Keys {
		if key.Kind == kind {
			return key, nil
		}
	}
	return storedKey{}, errNoKey
}

// tacKey is the TAC key of the version of the transaction's key, or the first where no version fits.
func (s *keyring) tacKey(version purse.KVER) (storedKey, error) {
	for _, key := range s.Keys {
		if key.Kind == purse.KeyTAC && key.Version == version {
			return key, nil
		}
	}
	return s.firstKey(purse.KeyTAC)
}

// open is the block cipher of a card key.
func (s *keyring) open(key storedKey) (cipher.Block, error) { return s.Algorithm.New(key.Value) }

// sessionCipher derives the session key of a transaction (EPURSE.md §3): 8 bytes used as single DES, or 16 bytes of SM4.
func (s *keyring) sessionCipher(key storedKey, in [8]byte) (cipher.Block, error) {
	block, err := s.open(key)
	if err != nil {
		return nil, err
	}
	if s.Algorithm == suite.SM4 {
		return suite.SM4.New(encrypt(block, withInverse(in)))
	}
	return suite.NewDES(encrypt(block, in[:]))
}

// foldedCipher is the key of TACs and of RELOAD PIN: the halves folded, or SM4 whole (EPURSE.md §4, §6).
func (s *keyring) foldedCipher(key storedKey) (cipher.Block, error) {
	if s.Algorithm == suite.SM4 {
		return s.open(key)
	}
	half := make([]byte, 8)
	subtle.XORBytes(half, key.Value[:8], key.Value[8:])
	return suite.NewDES(half)
}

// mac is the CBC-MAC of EPURSE.md §4 over the parts in their order.
func mac(block cipher.Block, parts ...[]byte) (purse.MAC, error) {
	last, err := cbcmac.Sum(block, nil, concat(parts...))
	if err != nil {
		return purse.MAC{}, err
	}
	return cbcmac.Leftmost(last), nil
}

// verifyMAC refuses a MAC that is not that of the parts with the status word sw.
func verifyMAC(block cipher.Block, got purse.MAC, sw purse.SW, parts ...[]byte) error {
	want, err := mac(block, parts...)
	if err != nil {
		return err
	}
	if !cbcmac.Equal(want, got) {
		return refusal(sw)
	}
	return nil
}

// messagingMAC is the secure-messaging MAC of EPURSE.md §4 from iv.
func (s *keyring) messagingMAC(key storedKey, iv, data []byte) (purse.MAC, error) {
	whole, err := s.open(key)
	if err != nil {
		return purse.MAC{}, err
	}
	var last []byte
	if s.Algorithm == suite.SM4 {
		last, err = cbcmac.Sum(whole, iv, data)
	} else {
		var left cipher.Block
		if left, err = suite.NewDES(key.Value[:8]); err != nil {
			return purse.MAC{}, err
		}
		last, err = retailmac.Sum(retailmac.Under(left), retailmac.Under(whole), iv, data)
	}
	if err != nil {
		return purse.MAC{}, err
	}
	return cbcmac.Leftmost(last), nil
}

func concat(parts ...[]byte) []byte {
	var b []byte
	for _, part := range parts {
		b = append(b, part...)
	}
	return b
}
