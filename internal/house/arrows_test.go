package house

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The arrows of DESIGN §1: what each folder may import of the project. "x/*" is every folder below x. A folder that is not here
// has no place in the house: whoever makes one adds its row, and says why in the commit.
var arrows = map[string][]string{
	"crypto/*":           {"crypto/*", "internal/secret"},
	"keyderive":          {"crypto/*", "internal/secret"},
	"keyderive/*":        {"keyderive", "crypto/*", "internal/secret"},
	"purse":              {"crypto/*"},
	"purse/softcard":     {"purse", "keyderive", "crypto/*", "internal/secret"}, // a card in software, for tests and the demo
	"purse/softreader":   {"crypto/*"},                                          // a reader's secure module in software, for tests and clients
	"policy":             {"internal/strictyaml"},                               // how the limits and the tables of cases are read
	"audit":              {"policy"},
	"audit/tiles":        {"audit"},                // the sealed log on disk
	"audit/sealer":       {"audit", "audit/tiles"}, // what writes it
	"audit/witness":      {"audit", "audit/tiles"}, // offers its checkpoints to those who sign them too
	"audit/witness/*":    {"audit/tiles"},          // a witness, for tests
	"audit/archive":      {"audit", "audit/*"},     // sealed entries leave the database
	"audit/past":         {"audit", "audit/tiles"}, // the record from where it is: the database, or the sealed log
	"audit/verifier":     {"audit", "audit/tiles"}, // what an auditor runs over it, with no token, database or network
	"store":              {"policy", "audit"},
	"store/pgtest":       {}, // real PostgreSQL servers, for tests
	"custody":            {"policy", "audit", "store", "hsm", "keyderive", "crypto/*", "internal/secret"},
	"custody/ceremony":   {"custody", "policy", "crypto/*", "keyderive", "internal/secret", "internal/strictyaml"}, // what persons do in one room, with no token
	"custody/escrow":     {"custody", "policy", "crypto/*", "keyderive", "internal/secret"},                        // how the backup key comes back
	"custody/recovery":   {"custody", "custody/escrow", "audit", "store", "hsm", "crypto/*", "internal/secret"},    // a backup into an empty token
	"hsm":                {"keyderive", "crypto/*", "internal/secret"},
	"hsm/softhsm":        {},
	"hsm/opencryptoki":   {}, // the tool and the daemon of the second PKCS#11 library, as hsm/softhsm is of the first
	"hsm/hsmtest":        {"hsm/softhsm", "hsm/opencryptoki"},
	"testvectors":        {"purse", "keyderive", "crypto/*", "internal/secret"},
	"signer/ledger":      {"store"},
	"signer/limits":      {"policy", "store"}, // the arithmetic of limits
	"signer/admission":   {},                  // fair shares among clients, of any work
	"signer":             append([]string{"signer/ledger", "signer/limits"}, belowSigner...),
	"signer/rpc":         append([]string{"signer", "signer/ledger", "signer/admission", "api/*", "internal/peers"}, belowSigner...),
	"api/pursekeeper/v1": {},
	"api/pursekeeper/v1/pursekeeperv1connect": {"api/pursekeeper/v1"},
	"internal/secret":                         {},
	"internal/peers":                          {"audit"}, // whose certificates are good now; it raises alarms
	"internal/source":                         {"internal/secret"},
	"internal/source/vaulttest":               {"internal/devpki"}, // real Vault servers, for tests
	"internal/devpki":                         {},
	"internal/strictyaml":                     {},                                // how a file that a person wrote is read: the configuration's and a ceremony's
	"internal/rules":                          {"policy", "internal/strictyaml"}, // a folder of rules, as officers write it
	"internal/config":                         append([]string{"signer", "signer/admission", "internal/peers", "internal/source", "internal/strictyaml"}, belowSigner...),
	"internal/house":                          {},
	"testvectors/conformance":                 {"testvectors", "purse", "keyderive", "crypto/*", "internal/secret"}, // a replay's signed report
	"internal/house/testlog":                  {},
	"cmd/pursekeeper":                         append([]string{"signer", "signer/*", "api/*", "testvectors", "testvectors/*", "purse/softcard", "hsm/softhsm", "internal/peers", "internal/source", "internal/config", "internal/rules", "internal/devpki", "internal/strictyaml"}, belowSigner...),
}

var belowSigner = []string{"store", "audit", "audit/*", "custody", "custody/*", "policy", "purse", "keyderive", "hsm", "crypto/*", "internal/secret"}

// row finds the row of a folder: its own, or that of all below its parent.
func row(folder string) (allowed []string, found bool) {
	if allowed, found = arrows[folder]; found {
		return allowed, true
	}
	for i := strings.LastIndexByte(folder, '/'); i > 0; i = strings.LastIndexByte(folder[:i], '/') {
		if allowed, found = arrows[folder[:i]+"/*"]; found {
			return allowed, true
		}
	}
	return nil, false
}

func allows(allowed []string, folder string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		below, all := strings.CutSuffix(a, "*")
		return a == folder || all && strings.HasPrefix(folder, below)
	})
}

func TestArrowsGoDownOnly(t *testing.T) {
	for _, p := range packages(t) {
		allowed, found := row(p.folder())
		if !assert.True(t, found, "%s has no row in the table of arrows", p.folder()) {
			continue
		}
		for _, imported := range p.ours() {
			assert.True(t, allows(allowed, imported), "%s imports %s, and may import only %v", p.folder(), imported, allowed)
		}
	}
}

// A table that let a cycle through would let everything through: no folder is below itself.
func TestTheTableHasNoCycle(t *testing.T) {
	var reaches func(from, to string, seen map[string]bool) bool
	reaches = func(from, to string, seen map[string]bool) bool {
		allowed, _ := row(from)
		for folder := range arrows {
			if folder == from || strings.HasSuffix(folder, "*") || !allows(allowed, folder) || seen[folder] {
				continue
			}
			seen[folder] = true
			if folder == to || reaches(folder, to, seen) {
				return true
			}
		}
		return false
	}
	for folder := range arrows {
		assert.False(t, reaches(folder, folder, map[string]bool{}), "%s is allowed to import itself, by way of others", folder)
	}
}

func TestTheTableRefuses(t *testing.T) {
	tests := []struct{ from, to string }{
		{"keyderive", "hsm"}, {"policy", "audit"}, {"purse", "keyderive"}, {"crypto/cbcmac", "keyderive"}, {"hsm", "signer"},
		{"store", "signer"}, {"signer", "signer/rpc"}, {"signer", "internal/config"}, {"signer/ledger", "policy"}, {"cmd/pursekeeper", "hsm/hsmtest"},
		{"internal/secret", "internal/source"}, {"audit", "store"},
	}
	for _, test := range tests {
		allowed, found := row(test.from)
		require.True(t, found, test.from)
		assert.False(t, allows(allowed, test.to), "%s → %s", test.from, test.to)
	}
	_, found := row("util")
	assert.False(t, found)
	_, found = row("crypto")
	assert.False(t, found, "crypto itself holds no Go files")
}

// The token is reached through one package: the PKCS#11 binding, and C at all, are in hsm. Its test module speaks PKCS#11 too,
// in tests alone.
func TestOnlyHSMSpeaksToTheToken(t *testing.T) {
	const binding = "github.com/miekg/pkcs11"
	speaks := 0
	for _, p := range packages(t) {
		if slices.Contains(p.Imports, binding) {
			speaks++
			assert.Equal(t, "hsm", p.folder(), "imports %s", binding)
		}
		if slices.Contains(append(p.TestImports, p.XTestImports...), binding) {
			assert.Contains(t, []string{"hsm", "hsm/hsmtest"}, p.folder(), "its tests import %s", binding)
		}
		if len(p.CgoFiles) > 0 {
			assert.Equal(t, "hsm", p.folder(), "has cgo")
		}
	}
	assert.Equal(t, 1, speaks)
}

func TestNoPackageImportsTestsOnly(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains([]string{"hsm/hsmtest", "audit/witness/witnesstest", "internal/source/vaulttest", "store/pgtest"}, p.folder()) {
			continue
		}
		for _, only := range []string{"testing", "github.com/stretchr/testify/assert", "github.com/stretchr/testify/require", "pgregory.net/rapid"} {
			assert.NotContains(t, p.Imports, only, p.folder())
		}
	}
}
