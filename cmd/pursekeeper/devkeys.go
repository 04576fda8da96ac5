package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// testKeysFile is what --test-keys takes: key sets with clear keys, for development tokens only.
type testKeysFile struct {
	KeySets []testKeySet `json:"keySets"`
}

type testKeySet struct {
	Name          string          `json:"name"`
	Algorithm     suite.Algorithm `json:"algorithm"`
	IssuerFactors []string        `json:"issuerFactors"`
	Keys          []testKey       `json:"keys"`
}

type testKey struct {
	Kind      keyderive.Kind `json:"kind"`
	Version   int            `json:"version"`
	MasterKey clearKey       `json:"masterKey"`
}

// clearKey is a published test key as text. It prints as "[redacted]" all the same.
type clearKey string

func (clearKey) String() string   { return "[redacted]" }
func (clearKey) GoString() string { return "[redacted]" }

// bytes moves the key into locked memory. The text it came from stays in ordinary memory: it is a test key.
func (k clearKey) bytes() (secret.Bytes, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(string(k), " ", ""))
	if err != nil || len(raw) != suite.KeySize {
		return secret.Bytes{}, fmt.Errorf("masterKey: expected %d hex digits", 2*suite.KeySize)
	}
	return secret.Take(raw), nil
}

// checkValue computes the key's check value in memory.
func (k clearKey) checkValue(alg suite.Algorithm) (kcv.Value, error) {
	key, err := k.bytes()
	if err != nil {
		return kcv.Value{}, err
	}
	defer key.Wipe()
	block, err := alg.New(key.Reveal("to compute the check value of a test key"))
	if err != nil {
		return kcv.Value{}, err
	}
	return kcv.Of(block), nil
}

// readTestKeys reads --test-keys strictly.
func readTestKeys(path string) ([]testKeySet, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	var file testKeysFile
	if err := decoder.Decode(&file); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: empty", path)
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: something follows the key sets", path)
	}
	if len(file.KeySets) == 0 {
		return nil, fmt.Errorf("%s: keySets: empty", path)
	}
	for _, set := range file.KeySets {
		if err := set.validate(); err != nil {
			return nil, fmt.Errorf("%s: key set %q: %w", path, set.Name, err)
		}
	}
	return file.KeySets, nil
}

// validate checks what the configuration's own reader does not see: the clear keys.
func (s testKeySet) validate() error {
	if !s.Algorithm.Valid() {
		return errors.New("algorithm: missing")
	}
	if len(s.Keys) == 0 {
		return errors.New("keys: empty")
	}
	for _, key := range s.Keys {
		if !key.Kind.Valid() || key.Version < 1 || key.Version > 255 {
			return fmt.Errorf("key %v version %d: expected a kind, and a version of 1 to 255", key.Kind, key.Version)
		}
		if _, err := key.MasterKey.checkValue(s.Algorithm); err != nil {
			return fmt.Errorf("key %v version %d: %w", key.Kind, key.Version, err)
		}
	}
	return nil
}

// demoMasters are published test keys, one a kind: those of testvectors' computed.json, and for a reader's module two more. Never use
// them for money.
var demoMasters = map[keyderive.Kind]clearKey{
	keyderive.KindPurchase:     "7C6D199E970D6B19B5A8295E10C17043",
	keyderive.KindLoad:         "F7C1734AABB56E2CE6E3AE76862FDC3B",
	keyderive.KindUnload:       "1C80CB5E526BA4EACD4F34250754F740",
	keyderive.KindOverdraft:    "040D5D07384A2AD376D0B3A213C751B3",
	keyderive.KindTAC:          "7FA79B75451FCDF820734AE367923E85",
	keyderive.KindPINUnblock:   "B9839DB98C3D859BC426C70D867AAEB0",
	keyderive.KindPINReload:    "1A52EFE6C713C1321A3E4CE994EA0DB5",
	keyderive.KindMaintenance:  "9E683E5DFDABA2DAD0BCFBFE927A1C3E",
	keyderive.KindControl:      "0D1E2F3C4B5A69788796A5B4C3D2E1F0",
	keyderive.KindInternalAuth: "2B4C6D8EA0B1C2D3E4F5061728394A5B",

	keyderive.KindReader:        "5D1F80C26A33970EB448D97521EC06FB",
	keyderive.KindReaderControl: "A9621BD47F08C39C55EE30874A13FDB6",
}

// demoIssuer is the issuer factor of both demonstration key sets.
const demoIssuer = "1000100010001000"

// demoKeySets are the two key sets that every development signer has.
func demoKeySets() []testKeySet {
	sets := []testKeySet{{Name: "demo", Algorithm: suite.TDES}, {Name: "demo-sm4", Algorithm: suite.SM4}}
	for i := range sets {
		sets[i].IssuerFactors = []string{demoIssuer}
		for _, kind := range keyderive.Kinds() {
			if master, ok := demoMasters[kind]; ok {
				sets[i].Keys = append(sets[i].Keys, testKey{Kind: kind, Version: 1, MasterKey: master})
			}
		}
	}
	return sets
}

// devBoundary is the strictest boundary that SoftHSM can keep: it has no SM4, and no key-XOR-key derivation.
func devBoundary(alg suite.Algorithm, kind keyderive.Kind) keyderive.Boundary {
	switch {
	case alg == suite.SM4:
		return keyderive.BoundaryProcess
	case kind.Folds():
		return keyderive.BoundaryCard
	}
	return keyderive.BoundaryToken
}
