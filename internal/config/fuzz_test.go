package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// No file makes Read panic or accept without a problem what lacks its certificates: the folder of the fuzzed file is empty.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{good, "listen: [", "a: &a [*a]", "keySets: [{issuerFactors: {a: b}, keys: [null]}]", "token: {pin: {vault: {appRole: {}}}}", "? [a]\n: b"} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "pk.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Read(path)
		var invalid *Invalid
		if c != nil || !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
			t.Fatalf("accepted, or refused without a problem: %v", err)
		}
	})
}
