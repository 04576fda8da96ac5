package escrow

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// SeedSize is the length of a seed.
const SeedSize = 32

// The labels of what is derived of a seed (RFC 5869, info).
const (
	labelWrapping = "pursekeeper backup v1: wrapping key"
	labelFile     = "pursekeeper backup v1: file key"
)

// NewSeed draws a seed; the caller wipes it.
func NewSeed(random io.Reader) (secret.Bytes, error) {
	seed := secret.New(SeedSize)
	if _, err := io.ReadFull(random, seed.Reveal("to fill it")); err != nil {
		seed.Wipe()
		return secret.Bytes{}, fmt.Errorf("random bytes: %w", err)
	}
	return seed, nil
}

// WrappingKey derives the backup key, 32 bytes for the token; the caller wipes it.
func WrappingKey(seed secret.Bytes) (secret.Bytes, error) { return derive(seed, labelWrapping) }

func derive(seed secret.Bytes, label string) (secret.Bytes, error) {
	if seed.Len() != SeedSize {
		return secret.Bytes{}, fmt.Errorf("seed: %d bytes, expected %d", seed.Len(), SeedSize)
	}
	derived, err := hkdf.Key(sha256.New, seed.Reveal("to derive a key of it"), nil, label, SeedSize)
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.Take(derived), nil
}

// FileRecipient is the public half of the file key, 64 hex digits. It tells one seed from another, too.
func FileRecipient(seed secret.Bytes) (string, error) {
	key, err := fileKey(seed)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(key.PublicKey().Bytes()), nil
}

// fileKey is in ordinary Go memory until it is collected.
func fileKey(seed secret.Bytes) (hpke.PrivateKey, error) {
	raw, err := derive(seed, labelFile)
	if err != nil {
		return nil, err
	}
	defer raw.Wipe()
	private, err := ecdh.X25519().NewPrivateKey(raw.Reveal("to make an X25519 key of it"))
	if err != nil {
		return nil, err
	}
	return hpke.NewDHKEMPrivateKey(private)
}

var errRecipient = errors.New("file recipient: expected 64 hex digits of an X25519 public key")

func parseRecipient(text string) (hpke.PublicKey, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, errRecipient
	}
	public, err := ecdh.X25519().NewPublicKey(raw)
	if err != nil {
		return nil, errRecipient
	}
	return hpke.NewDHKEMPublicKey(public)
}
