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

	boundary keyderive.Boundary // of all its keys; 0 is devBoundary's
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

// issuanceMasters are published test keys too, and others: two key sets of one algorithm never hold the same master.
var issuanceMasters = map[keyderive.Kind]clearKey{
	keyderive.KindPurchase:      "46E1B6D17B85F1AC29A47EFFFB91C5D3",
	keyderive.KindLoad:          "FC841AD9F0E5ADF5778A07D9920F34FD",
	keyderive.KindUnload:        "4C5B85D6C84FA4531332BAFB8C7E8B80",
	keyderive.KindOverdraft:     "D6BEE4171BF23D445117B86ED8B23E27",
	keyderive.KindTAC:           "45DE328CCDAB64C5B30244EC834F7EAD",
	keyderive.KindPINUnblock:    "A997F7BDC27C0C9E213FC0E3DFA619A6",
	keyderive.KindPINReload:     "DAC09643914D1DCC24774BDE6079D654",
	keyderive.KindMaintenance:   "D1940850E43EA67A3932431F98C331A5",
	keyderive.KindControl:       "671B961310D304E9D9195D492A0CE375",
	keyderive.KindInternalAuth:  "D5A94AC998E6EE91261410B92BAAD8D4",
	keyderive.KindReader:        "B1B679F4CB71A1E0E93E2B89F0CBDBE2",
	keyderive.KindReaderControl: "98C8FD791D7261F3EBD2B5934260AE2C",
}

// demoIssuer is the issuer factor of all demonstration key sets.
const demoIssuer = "1000100010001000"

// demoNames are the key sets of demoKeySets.
const demoNames = "demo, demo-sm4 and demo-issuance"

// demoKeySets are the key sets that every development signer has. demo-issuance has its masters where card keys can be written to
// cards from: at the CARD boundary, all of them.
func demoKeySets() []testKeySet {
	return []testKeySet{
		demoKeySet("demo", suite.TDES, demoMasters, 0),
		demoKeySet("demo-sm4", suite.SM4, demoMasters, 0),
		demoKeySet("demo-issuance", suite.TDES, issuanceMasters, keyderive.BoundaryCard),
	}
}

func demoKeySet(name string, alg suite.Algorithm, masters map[keyderive.Kind]clearKey, boundary keyderive.Boundary) testKeySet {
	set := testKeySet{Name: name, Algorithm: alg, IssuerFactors: []string{demoIssuer}, boundary: boundary}
	for _, kind := range keyderive.Kinds() {
		if master, ok := masters[kind]; ok {
			set.Keys = append(set.Keys, testKey{Kind: kind, Version: 1, MasterKey: master})
		}
	}
	return set
}

// keyBoundary is where a key of the set goes.
func (s testKeySet) keyBoundary(kind keyderive.Kind) keyderive.Boundary {
	if s.boundary != 0 {
		return s.boundary
	}
	return devBoundary(s.Algorithm, kind)
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
