package hsm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// ErrOtherKey: a key block is right, and of another key than the one that was to come in it.
var ErrOtherKey = errors.New("the key block is of another key")

// Received is what is to be recorded of a master that came in a key block. None of it is secret.
type Received struct {
	Purse  keyblock.Purse
	Parity keyblock.Parity // of a 3DES master; it is imported as it came, whatever its parity is
}

// MasterHeader is the header of the key block in which a master moves: its kind, KVER and check value are in it (keyblock.Purse). An SM4
// master needs an AES transport key.
func MasterHeader(spec KeySpec, kver byte, transport keyblock.Protector) (keyblock.Header, error) {
	if err := spec.validate(); err != nil {
		return keyblock.Header{}, fmt.Errorf("key block: %w", err)
	}
	return keyblock.Purse{Kind: spec.Kind.String(), KVER: kver, Algorithm: spec.Algorithm, Check: spec.KCV}.Header(transport.Cipher().Version())
}

// WrapKeyBlock makes a key block of a key that is in locked memory, under a transport key: X9.143 version B or D, by the transport key's cipher.
// The padding is random, and hides how long the key is. The block is opened again before anybody sees it: a token that
// computed something else gives no wrong block away. key stays the caller's, who wipes it.
func WrapKeyBlock(ctx context.Context, transport keyblock.Protector, header keyblock.Header, key secret.Bytes) (string, error) {
	if n := key.Len(); n == 0 || n > maxWrapped {
		return "", fmt.Errorf("wrap key block: %d bytes, expected 1 to %d", n, maxWrapped)
	}
	padding := make([]byte, keyblock.PaddingSize(header.Version, header.Algorithm, key.Len()))
	rand.Read(padding) // never fails: it ends the process instead
	block, err := keyblock.Wrap(ctx, transport, header, key, padding)
	if err != nil {
		return "", fmt.Errorf("wrap key block: %w", err)
	}
	opened, err := keyblock.Unwrap(ctx, transport, block)
	if errors.Is(err, keyblock.ErrMAC) {
		err = fmt.Errorf("%w: %w", ErrSelfTest, err)
	}
	if err != nil {
		return "", fmt.Errorf("wrap key block: open it again: %w", err)
	}
	defer opened.Wipe()
	if !opened.Key.Equal(key) {
		return "", fmt.Errorf("wrap key block: %w: another key comes out", ErrSelfTest)
	}
	return block, nil
}

// maxWrapped is the longest key of any algorithm that a key block is made of here.
const maxWrapped = 32

// UnwrapMaster opens the key block of a master and holds it against the spec and KVER that are expected: ErrOtherKey where its kind,
// algorithm, KVER or check value is another. The master is in locked memory, for the moment until it is in the token; the caller wipes it.
//
// It has to pass there. The payload of a key block is two bytes of length, the key, and padding, so that C_UnwrapKey makes no key of it;
// what would take the key out of it inside (CKM_EXTRACT_KEY_FROM_KEY) and put the header before it for the MAC
// (CKM_CONCATENATE_DATA_AND_BASE) neither SoftHSM 2.6.1 nor openCryptoki's token has. HSMs that open key blocks inside do it by mechanisms
// of their vendors.
func UnwrapMaster(ctx context.Context, transport keyblock.Protector, spec KeySpec, kver byte, block string) (Received, secret.Bytes, error) {
	if err := spec.validate(); err != nil {
		return Received{}, secret.Bytes{}, fmt.Errorf("key block: %w", err)
	}
	purse, opened, err := keyblock.UnwrapPurse(ctx, transport, block)
	if err != nil {
		return Received{}, secret.Bytes{}, err
	}
	defer opened.Wipe()
	kind, err := keyderive.ParseKind(purse.Kind)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrOtherKey, err)
	case kind != spec.Kind:
		err = fmt.Errorf("%w: kind %v, expected %v", ErrOtherKey, kind, spec.Kind)
	case purse.Algorithm != spec.Algorithm:
		err = fmt.Errorf("%w: algorithm %v, expected %v", ErrOtherKey, purse.Algorithm, spec.Algorithm)
	case purse.KVER != kver:
		err = fmt.Errorf("%w: KVER %02X, expected %02X", ErrOtherKey, purse.KVER, kver)
	case purse.Check != spec.KCV:
		err = fmt.Errorf("%w: check value %v, expected %v", ErrOtherKey, purse.Check, spec.KCV)
	}
	if err != nil {
		return Received{}, secret.Bytes{}, fmt.Errorf("key block for %q: %w", spec.Label, err)
	}
	return Received{purse, opened.Parity}, secret.Copy(opened.Key.Reveal("to hand it to the import")), nil
}

// ImportKeyBlock is UnwrapMaster and ImportMaster: the master of a key block becomes a master of the token with its final attributes. In the
// process it is in locked memory from the decryption to the end of the import, and no longer. No copy is made for backup:
// ImportKeyBlockWithBackup is for production.
func (t *Token) ImportKeyBlock(ctx context.Context, transport keyblock.Protector, spec KeySpec, kver byte, block string) (Received, error) {
	received, _, err := t.ImportKeyBlockWithBackup(ctx, transport, spec, kver, block, WithoutBackup())
	return received, err
}

// ImportKeyBlockWithBackup is UnwrapMaster and ImportMasterWithBackup.
func (t *Token) ImportKeyBlockWithBackup(ctx context.Context, transport keyblock.Protector, spec KeySpec, kver byte, block string, under Backup) (Received, Wrapped, error) {
	received, key, err := UnwrapMaster(ctx, transport, spec, kver, block)
	if err != nil {
		return Received{}, nil, err
	}
	defer key.Wipe()
	wrapped, err := t.ImportMasterWithBackup(ctx, spec, key, under)
	if err != nil {
		return Received{}, nil, err
	}
	return received, wrapped, nil
}
