package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/peers"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

const good = `
listen: 127.0.0.1:7443
admin: 127.0.0.1:7444
tls: {certificate: tls/server.pem, key: tls/server.key, clientCA: tls/server.pem}
token:
  module: module.so
  label: pursekeeper-demo
  pin: {file: pin}
  softhsmConf: softhsm2.conf
  hang: 7s
  development: true
store: {sqlite: state.db}
clients:
  - {name: platform, identity: "spiffe://pursekeeper.example/platform", role: platform, keySets: [demo, demo-sm4], maxAmountFen: 100000}
keySets:
  - name: demo
    algorithm: 3DES
    profile: pboc-ep
    issuerFactors: ["1000100010001000"]
    timeZone: Asia/Shanghai
    mac1FailureLimit: 9
    tacVersion: {2: 1}
    keys:
      - {kind: load, version: 1, state: active, boundary: TOKEN, kcv: "0A1B2C"}
      - {kind: load, version: 2, state: active, boundary: CARD, kcv: "012345", label: other}
      - {kind: tac, version: 1, state: active, boundary: CARD, kcv: "8ca64d"}
  - name: demo-sm4
    algorithm: SM4
    profile: cards/own.yaml
    timeZone: UTC
    keys:
      - {kind: load, version: 1, state: deactivated, boundary: PROCESS, kcv: "0A1B2C"}
audit: {directory: audit}
`

// folder holds the files that good names.
func folder(t *testing.T) string {
	dir := t.TempDir()
	certificate, key := selfSigned(t)
	for name, content := range map[string]string{
		"tls/server.pem": certificate, "tls/server.key": key, "module.so": "", "softhsm2.conf": "",
		"cards/own.yaml": "name: own\nissuerFactors: {from: issuerId}\n",
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return dir
}

func selfSigned(t *testing.T) (certificate, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// readText reads text as the file pk.yaml of dir.
func readText(t *testing.T, dir, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(dir, "pk.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return Read(path)
}

// Every field of a secret in Vault is read where docs/vault.md has it, those of the server too.
func TestReadAPINInVault(t *testing.T) {
	c, err := readText(t, folder(t), strings.Replace(good, "pin: {file: pin}", `pin:
    vault:
      address: https://vault.example.org:8200
      caFile: vault-ca.pem
      serverName: vault
      namespace: payments
      mount: kv
      kvVersion: 1
      path: pursekeeper/token
      field: pin
      appRole: {mount: machines, roleId: 5c1d, secretId: {env: SECRET_ID}}`, 1))
	require.NoError(t, err)
	assert.Equal(t, "vault https://vault.example.org:8200 kv/pursekeeper/token pin", c.Token.PIN.String())
}

// A database's URL is taken as it is, and its password from where it is, anew each time.
func TestReadAStoreInPostgres(t *testing.T) {
	dir := folder(t)
	c, err := readText(t, dir, strings.Replace(good, "sqlite: state.db", `postgres: {url: "postgresql://signer@localhost/pursekeeper", password: {file: pw}}`, 1))
	require.NoError(t, err)
	assert.Empty(t, c.SQLite)
	assert.Equal(t, "postgresql://signer@localhost/pursekeeper", c.StoreName())
	for _, password := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "pw"), []byte(password+"\n"), 0o600))
		read, err := c.Postgres.Database().Password(t.Context())
		require.NoError(t, err)
		assert.Equal(t, password, string(read))
	}
	c, err = readText(t, dir, strings.Replace(good, "sqlite: state.db", `postgres: {url: "postgresql://signer@/pursekeeper?host=/run/postgresql"}`, 1))
	require.NoError(t, err)
	assert.Nil(t, c.Postgres.Database().Password, "a server that asks for none")
}

func TestRead(t *testing.T) {
	dir := folder(t)
	c, err := readText(t, dir, good)
	require.NoError(t, err)

	assert.Equal(t, "127.0.0.1:7443", c.Listen)
	assert.Equal(t, "127.0.0.1:7444", c.Admin)
	assert.Equal(t, peers.Files{
		Certificate: filepath.Join(dir, "tls/server.pem"), Key: filepath.Join(dir, "tls/server.key"), ClientCA: filepath.Join(dir, "tls/server.pem"),
	}, c.TLS)
	assert.Equal(t, filepath.Join(dir, "module.so"), c.Token.Module)
	assert.Equal(t, "file "+filepath.Join(dir, "pin"), c.Token.PIN.String())
	assert.Equal(t, filepath.Join(dir, "softhsm2.conf"), c.Token.SoftHSMConf)
	assert.Equal(t, []any{DefaultInFlight, DefaultQueue, 7 * time.Second, true}, []any{c.Token.InFlight, c.Token.Queue, c.Token.Hang, c.Token.Development})
	assert.Equal(t, filepath.Join(dir, "state.db"), c.SQLite)
	assert.Equal(t, Audit{Directory: filepath.Join(dir, "audit"), Origin: "pursekeeper/pursekeeper-demo"}, c.Audit)
	assert.Equal(t, []any{2 * time.Minute, 8 * time.Hour}, []any{c.ChallengeLife, c.SessionLife})
	assert.Equal(t, []any{DefaultRequestTimeout, DefaultShutdownTimeout, slog.LevelInfo}, []any{c.RequestTimeout, c.ShutdownTimeout, c.LogLevel})
	assert.Equal(t, []policy.Client{{Name: "platform", Identity: "spiffe://pursekeeper.example/platform", Role: policy.Platform,
		KeySets: []string{"demo", "demo-sm4"}, MaxAmountFen: 100000}}, c.Clients)

	assert.Equal(t, hsm.Profile{Name: "softhsm", Tested: true, Serial: true}, c.Token.Profile)

	demo, sm4 := c.KeySets[0], c.KeySets[1]
	assert.Equal(t, []any{"demo", suite.TDES, "Asia/Shanghai", 9, map[int]int{2: 1}},
		[]any{demo.Name, demo.Algorithm, demo.Location.String(), demo.MAC1Failures, demo.TACVersion})
	assert.Equal(t, "1000100010001000", demo.Issuer.Fixed.String())
	assert.Equal(t, 1, demo.IssuerLevels)
	ofProfile, err := demo.Profile.IssuerFactors("")
	require.NoError(t, err)
	assert.Equal(t, [][8]byte{{0x10, 0, 0x10, 0, 0x10, 0, 0x10, 0}}, ofProfile)
	assert.Equal(t, []Key{
		{Kind: keyderive.KindLoad, Version: 1, State: custody.Active, Boundary: keyderive.BoundaryToken, KCV: kcv.Value{0x0A, 0x1B, 0x2C}, Label: "demo/load/1"},
		{Kind: keyderive.KindLoad, Version: 2, State: custody.Active, Boundary: keyderive.BoundaryCard, KCV: kcv.Value{0x01, 0x23, 0x45}, Label: "other"},
		{Kind: keyderive.KindTAC, Version: 1, State: custody.Active, Boundary: keyderive.BoundaryCard, KCV: kcv.Value{0x8C, 0xA6, 0x4D}, Label: "demo/tac/1"},
	}, demo.Keys)
	assert.Equal(t, []any{suite.SM4, "own", DefaultMAC1Failures, true, 1},
		[]any{sm4.Algorithm, sm4.Profile.Name(), sm4.MAC1Failures, sm4.Issuer.FromCard, sm4.IssuerLevels})
}

// Each case changes one thing of the good configuration.
func TestWhatIsRefused(t *testing.T) {
	const loadKey = `{kind: load, version: 1, state: active, boundary: TOKEN, kcv: "0A1B2C"}`
	tests := []struct{ name, old, new, says string }{
		{"unknown field", "listen:", "listne:", "pk.yaml:2: listne: unknown field"},
		{"unknown field far down", "label: other", "lable: other", "keySets[0].keys[1].lable: unknown field"},
		{"unknown source", "pin: {file: pin}", "pin: {flie: pin}", "pk.yaml:8: token.pin.flie: unknown field"},
		{"repeated field", "admin: 127.0.0.1:7444", "listen: 127.0.0.1:7444", "pk.yaml:3: mapping key"},
		{"wrong type", "tacVersion: {2: 1}", "tacVersion: {two: 1}", "pk.yaml:22: cannot unmarshal"},
		{"octal", `"012345"`, "012345", "keySets[0].keys[1].kcv: would be read as another number than is written: write it in quotes"},
		{"underscore", `"012345"`, "01_2345", "write it in quotes"},
		{"hex", `"012345"`, "0x2345", "write it in quotes"},
		{"half a version", "{kind: tac, version: 1,", "{kind: tac, version: 1.5,", "write it in quotes"},
		{"two documents", "store:", "---\nstore:", "one document"},

		{"no port", "listen: 127.0.0.1:7443", "listen: 127.0.0.1", "pk.yaml:2: listen: "},
		{"a port by name", "7443", "https", "listen: "},
		{"admin for everybody", "admin: 127.0.0.1:7444", "admin: 0.0.0.0:7444", "admin: \"0.0.0.0:7444\" is no loopback address"},
		{"admin for everybody, by leaving the host out", "admin: 127.0.0.1:7444", `admin: ":7444"`, "is no loopback address"},
		{"insecure without use", "tls:", "adminInsecureNonLoopback: true\ntls:", "adminInsecureNonLoopback: has no use"},
		{"one address", "7444", "7443", "is the address of listen too"},

		{"no certificate", "certificate: tls/server.pem,", "", "tls.certificate: missing"},
		{"certificate not there", "certificate: tls/server.pem", "certificate: tls/other.pem", "tls/other.pem is not there"},
		{"key is no key", "key: tls/server.key", "key: tls/server.pem", "tls: certificate and key"},
		{"CA is no certificate", "clientCA: tls/server.pem", "clientCA: tls/server.key", "tls.clientCA: "},

		{"module not there", "module: module.so", "module: other.so", "token.module: "},
		{"module is a folder", "module: module.so", "module: tls", "is a folder"},
		{"no label", "label: pursekeeper-demo", `label: ""`, "token.label"},
		{"no pin", "pin: {file: pin}", "pin: {}", "token.pin: write exactly one of file, env and vault"},
		{"the pin itself", "pin: {file: pin}", "pin: 471147", "pk.yaml:8: "},
		{"the pin itself, with a zero", "pin: {file: pin}", "pin: 0471147", "token.pin: would be read"},
		{"two pins", "pin: {file: pin}", "pin: {file: pin, env: PIN}", "token.pin: write exactly one"},
		{"a field that vault has not", "pin: {file: pin}", "pin: {vault: {server: {address: a}}}", "token.pin.vault.server: unknown field"},
		{"vault without anything", "pin: {file: pin}", "pin: {vault: {path: p}}", "token.pin: vault.mount"},
		{"no one in flight", "hang: 7s", "inFlight: 0", "token.inFlight: 0: expected 1 to 256"},
		{"no queue", "hang: 7s", "queue: -1", "token.queue: -1: expected 1 to 1048576"},
		{"hang in nothing", "hang: 7s", `hang: "7"`, "token.hang"},
		{"hang at once", "hang: 7s", "hang: 1ms", "token.hang"},
		{"store in no folder", "sqlite: state.db", "sqlite: none/state.db", "store.sqlite: the folder"},
		{"no store", "sqlite: state.db", "", "store: missing: expected store.sqlite or store.postgres"},
		{"two stores", "sqlite: state.db", "sqlite: state.db, postgres: {url: \"postgresql://s@localhost/s\"}", "store: holds sqlite and postgres"},
		{"postgres without a url", "sqlite: state.db", "postgres: {}", "store.postgres.url: missing"},
		{"postgres with a password", "sqlite: state.db", "postgres: {url: \"postgresql://s:p@localhost/s\"}", "store.postgres.url: it holds a password"},
		{"postgres over an open net", "sqlite: state.db", "postgres: {url: \"postgresql://s@db/s\"}", "store.postgres.url: db is on another machine"},
		{"postgres's certificate nowhere", "sqlite: state.db", "postgres: {url: \"postgresql://s@db/s?sslmode=verify-full&sslrootcert=/no/ca\"}", "/no/ca is not there"},
		{"postgres's certificate in no folder", "sqlite: state.db", "postgres: {url: \"postgresql://s@db/s?sslmode=verify-full&sslrootcert=ca\"}", "sslrootcert=ca: expected an absolute path"},
		{"two passwords of postgres", "sqlite: state.db", "postgres: {url: \"postgresql://s@localhost/s\", password: {file: a, env: B}}", "store.postgres.password: write exactly one"},
		{"a field that postgres has not", "sqlite: state.db", "postgres: {url: \"postgresql://s@localhost/s\", sslmode: disable}", "store.postgres.sslmode: unknown field"},
		{"no audit", "directory: audit", "", "audit.directory: missing"},
		{"audit in no folder", "directory: audit", "directory: none/audit", "audit.directory: the folder"},
		{"audit in a file", "directory: audit", "directory: module.so", "module.so is no folder"},
		{"origin with a space", "directory: audit", "directory: audit, origin: a b", "audit.origin"},
		{"origin with a plus", "directory: audit", "directory: audit, origin: a+b", "audit.origin"},
		{"witness without a name", "directory: audit", "directory: audit, witnesses: [{url: \"https://w.example\", key: " + witnessKey + "}]", "audit.witnesses[0].name: missing"},
		{"witness with a slash", "directory: audit", "directory: audit, witnesses: [{name: a/b, url: \"https://w.example\", key: " + witnessKey + "}]", "audit.witnesses[0].name: "},
		{"witness over plain HTTP", "directory: audit", "directory: audit, witnesses: [{name: a, url: \"http://w.example\", key: " + witnessKey + "}]", "audit.witnesses[0].url: \"http://w.example\": expected https"},
		{"witness at no place", "directory: audit", "directory: audit, witnesses: [{name: a, url: w.example, key: " + witnessKey + "}]", "audit.witnesses[0].url: "},
		{"witness with a password", "directory: audit", "directory: audit, witnesses: [{name: a, url: \"https://a:b@w.example\", key: " + witnessKey + "}]", "audit.witnesses[0].url: "},
		{"witness without a key", "directory: audit", "directory: audit, witnesses: [{name: a, url: \"https://w.example\"}]", "audit.witnesses[0].key: key of a witness"},
		{"witness with the key of a log", "directory: audit", "directory: audit, witnesses: [{name: a, url: \"https://w.example\", key: \"" + logKey + "\"}]", "it has the type 1, not 4"},
		{"one witness twice", "directory: audit", "directory: audit, witnesses: [{name: a, url: \"https://w.example\", key: " + witnessKey + "}, {name: b, url: \"https://v.example\", key: " + sameWitness + "}]", "audit.witnesses[1].key: is the key of audit.witnesses[0] too"},
		{"witness under no authority", "directory: audit", "directory: audit, witnesses: [{name: a, url: \"https://w.example\", ca: tls/server.key, key: " + witnessKey + "}]", "holds no certificate"},
		{"label that is no origin", "label: pursekeeper-demo", "label: \"purse keeper\"", "audit.origin"},
		{"log level", "store:", "log: {level: all}\nstore:", "log.level"},
		{"no time", "store:", "limits: {requestTimeout: 0s}\nstore:", "limits.requestTimeout"},
		{"too much time", "store:", "limits: {requestTimeout: 61s}\nstore:", "limits.requestTimeout"},
		{"a challenge for long", "store:", "limits: {challengeLife: 11m}\nstore:", "limits.challengeLife"},
		{"a challenge for nothing", "store:", "limits: {challengeLife: 10ms}\nstore:", "limits.challengeLife"},
		{"a session for ever", "store:", "limits: {sessionLife: 169h}\nstore:", "limits.sessionLife"},
		{"a session for nothing", "store:", "limits: {sessionLife: 8}\nstore:", "limits.sessionLife"},

		{"list of revoked certificates that is not there", "clientCA: tls/server.pem", "clientCA: tls/server.pem, crl: none.crl", "tls.crl: "},
		{"list that is none", "clientCA: tls/server.pem", "clientCA: tls/server.pem, crl: tls/server.pem", `tls.crl: `},
		{"grace of no list", "clientCA: tls/server.pem", "clientCA: tls/server.pem, crlGrace: 1h", "tls.crlGrace: has no use without tls.crl"},
		{"grace for long", "clientCA: tls/server.pem", "clientCA: tls/server.pem, crl: tls/server.pem, crlGrace: 169h", "tls.crlGrace: 169h0m0s: expected at most 168h"},
		{"grace in nothing", "clientCA: tls/server.pem", "clientCA: tls/server.pem, crl: tls/server.pem, crlGrace: 5", "tls.crlGrace: "},

		{"no client", goodClients(), "", "clients: missing"},
		{"client without identity", `identity: "spiffe://pursekeeper.example/platform", `, "", "clients[0].identity: missing"},
		{"identity is no name", `"spiffe://pursekeeper.example/platform"`, `"CN=platform, O=x"`, "clients[0].identity: "},
		{"role", "role: platform", "role: root", "clients[0].role: \"root\""},
		{"key set of a client", "keySets: [demo, demo-sm4]", "keySets: [demo, other]", `clients[0].keySets[1]: there is no key set "other"`},
		{"key set twice", "keySets: [demo, demo-sm4]", "keySets: [demo, demo]", "clients[0].keySets[1]: \"demo\" is there twice"},
		{"no key set", "keySets: [demo, demo-sm4]", "keySets: []", "clients[0].keySets: missing"},
		{"amount below zero", "maxAmountFen: 100000", "maxAmountFen: -1", "clients[0].maxAmountFen"},
		{"amount of five bytes", "maxAmountFen: 100000", "maxAmountFen: 4294967296", "clients[0].maxAmountFen"},
		{"two clients", "keySets:\n", goodClient() + "keySets:\n", "clients[1].name: \"platform\" is there twice"},
		{"two clients of one identity", "keySets:\n", goodClient() + "keySets:\n", "clients[1].identity: "},

		{"set name", "name: demo-sm4", "name: Demo", "keySets[1].name"},
		{"set twice", "name: demo-sm4", "name: demo", "keySets[1].name: \"demo\" is there twice"},
		{"algorithm", "algorithm: 3DES", "algorithm: AES", `keySets[0].algorithm: algorithm "AES"`},
		{"profile", "profile: pboc-ep", "profile: pboc", "keySets[0].profile: "},
		{"profile file", "profile: cards/own.yaml", "profile: cards/other.yaml", "keySets[1].profile: "},
		{"profile file with another content", "profile: cards/own.yaml", "profile: tls/server.key", "keySets[1].profile: "},
		{"factor too short", `["1000100010001000"]`, `["10001000"]`, "keySets[0].issuerFactors: "},
		{"factor word", `["1000100010001000"]`, `cards`, "expected none, card or a list"},
		{"factor that escapes its quotes", `["1000100010001000"]`, `['"], x: ["']`, "keySets[0].issuerFactors: "},
		{"factors against the profile's", "profile: cards/own.yaml", "profile: cards/own.yaml\n    issuerFactors: none", "none, but card profile own has card"},
		{"time zone", "timeZone: UTC", "timeZone: Mars", "keySets[1].timeZone"},
		{"no time zone", "timeZone: UTC", "", "keySets[1].timeZone"},
		{"the machine's time zone", "timeZone: UTC", "timeZone: Local", "keySets[1].timeZone"},
		{"a card is never locked", "mac1FailureLimit: 9", "mac1FailureLimit: 0", "keySets[0].mac1FailureLimit"},
		{"tac version of no key", "tacVersion: {2: 1}", "tacVersion: {2: 1, 3: 1}", "keySets[0].tacVersion.3: there is no key of version 3"},
		{"tac version that is not there", "tacVersion: {2: 1}", "tacVersion: {2: 3}", "keySets[0].tacVersion.2: there is no tac key of version 3"},
		{"keys of production", "development: true", "development: false", "pk.yaml:16: keySets: leave it out: the keys of a token that is not for development are those of the catalogue"},
		{"no keys", "keys:\n      - {kind: load, version: 1, state: deactivated, boundary: PROCESS, kcv: \"0A1B2C\"}", "keys: []", "keySets[1].keys: missing"},

		{"kind", loadKey, strings.Replace(loadKey, "load", "debit", 1), `keySets[0].keys[0].kind: key kind "debit"`},
		{"version 0", loadKey, strings.Replace(loadKey, "version: 1", "version: 0", 1), "keySets[0].keys[0].version: 0"},
		{"version 256", loadKey, strings.Replace(loadKey, "version: 1", "version: 256", 1), "keySets[0].keys[0].version: 256"},
		{"version twice", loadKey, strings.Replace(loadKey, "version: 1", "version: 2", 1), "keySets[0].keys[1]: load version 2 is there twice"},
		{"state", loadKey, strings.Replace(loadKey, "active", "on", 1), `keySets[0].keys[0].state: key state "on"`},
		{"boundary", loadKey, strings.Replace(loadKey, "TOKEN", "token", 1), `keySets[0].keys[0].boundary: boundary "token"`},
		{"no kcv", loadKey, strings.Replace(loadKey, `, kcv: "0A1B2C"`, "", 1), "keySets[0].keys[0].kcv"},
		{"short kcv", loadKey, strings.Replace(loadKey, "0A1B2C", "0A1B", 1), "keySets[0].keys[0].kcv"},
		{"label twice", "label: other", "label: demo/load/1", `keySets[0].keys[1].label: "demo/load/1" is there twice`},
		{"label of another script", "label: other", "label: 圈存", "keySets[0].keys[1].label: "},
		{"tac in the token", `boundary: CARD, kcv: "8ca64d"`, `boundary: TOKEN, kcv: "8ca64d"`, "keySets[0].keys[2].boundary: TOKEN: a token of profile softhsm has no key-XOR-key derivation, which the tac key needs; use CARD"},
		{"SM4 in the token", "boundary: PROCESS", "boundary: TOKEN", "keySets[1].keys[0].boundary: TOKEN: a token of profile softhsm has no SM4; use PROCESS"},
		{"SM4 beside the token", "boundary: PROCESS", "boundary: CARD", "keySets[1].keys[0].boundary: CARD: a token of profile softhsm has no SM4; use PROCESS"},
		{"a token that derives nothing", "hang: 7s", "profile: opencryptoki", "keySets[0].keys[0].boundary: TOKEN: a token of profile opencryptoki does not derive keys with 3DES; use CARD"},
		{"token profile", "hang: 7s", "profile: hsm", `token.profile: token profile "hsm" is not shipped, expected one of [softhsm`},
		{"token profile file", "hang: 7s", "profile: ./none.yaml", "token.profile: "},
		{"token profile file with another content", "hang: 7s", "profile: cards/own.yaml", `token.profile: token profile: [2:1] unknown field "issuerFactors"`},
		{"one master in two versions", `kcv: "012345", label: other`, `kcv: "0A1B2C", label: other`, "keySets[0].keys[1].kcv: 0A1B2C is also another key of this set, of kind load"},
		{"a TAC key that does not verify", "{kind: tac, version: 1, state: active", "{kind: tac, version: 1, state: suspended", "there is no tac key of version 1 that verifies"},
		{"one master in two sets", "algorithm: SM4", "algorithm: 3DES", "keySets[1].keys[0].kcv: 0A1B2C is also the load key of key set demo"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.Contains(t, good, test.old, "the test changes nothing")
			dir := folder(t)
			_, err := readText(t, dir, strings.Replace(good, test.old, test.new, 1))
			require.ErrorContains(t, err, test.says)
			var invalid *Invalid
			require.ErrorAs(t, err, &invalid)
			assert.NotContains(t, err.Error(), "471147")
			for _, line := range strings.Split(err.Error(), "\n") {
				assert.Contains(t, line, filepath.Join(dir, "pk.yaml"))
			}
		})
	}
}

func goodClients() string { return "clients:\n" + goodClient() }

func goodClient() string {
	_, client, _ := strings.Cut(good, "clients:\n")
	client, _, _ = strings.Cut(client, "keySets:\n")
	return client
}

// Without key sets, they and the clients are those of the catalogue, and clients that nobody decides on are refused.
func TestKeySetsOfTheCatalogue(t *testing.T) {
	text := strings.Replace(good[:strings.Index(good, "keySets:\n")], "development: true", "queue: 7", 1) + "audit: {directory: audit}\n"
	_, err := readText(t, folder(t), text)
	require.ErrorContains(t, err, "clients: without keySets, officers decide on clients")
	c, err := readText(t, folder(t), strings.Replace(text, goodClients(), "", 1))
	require.NoError(t, err)
	assert.True(t, c.Catalogued())
	assert.Empty(t, c.Clients)
	c, err = readText(t, folder(t), good)
	require.NoError(t, err)
	assert.False(t, c.Catalogued())
}

func TestFromCatalogue(t *testing.T) {
	set := custody.KeySet{
		Definition: custody.Definition{Name: "gd", Algorithm: suite.TDES, Profile: "pboc-ep", Issuer: "fixed", Factors: []string{"1000100010001000"},
			TimeZone: "Asia/Shanghai", MAC1FailureLimit: 7, TACVersion: map[int]int{2: 1}},
		Keys: []custody.Key{{Name: custody.Name{Kind: keyderive.KindLoad, Version: 2}, State: custody.PreActive, Boundary: keyderive.BoundaryToken,
			KCV: custody.CheckValue{Value: "0A1B2C", Algorithm: "3DES"}, Label: "gd/load/2", ID: "000102030405060708090a0b0c0d0e0f",
			Origin: "generated", Created: time.Unix(1, 0), ActivateAt: time.Unix(2, 0), Due: time.Unix(3, 0)}},
	}
	got, err := FromCatalogue(set)
	require.NoError(t, err)
	assert.Equal(t, []any{"gd", suite.TDES, "Asia/Shanghai", 7, map[int]int{2: 1}, 1, "1000100010001000"}, []any{got.Name, got.Algorithm,
		got.Location.String(), got.MAC1Failures, got.TACVersion, got.IssuerLevels, got.Issuer.Fixed.String()})
	assert.Equal(t, []Key{{Kind: keyderive.KindLoad, Version: 2, State: custody.PreActive, Boundary: keyderive.BoundaryToken,
		KCV: kcv.Value{0x0A, 0x1B, 0x2C}, Label: "gd/load/2", ID: hsm.ObjectID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		Origin: "generated", Created: time.Unix(1, 0), ActivateAt: time.Unix(2, 0), Due: time.Unix(3, 0)}}, got.Keys)

	for says, change := range map[string]func(*custody.KeySet){
		"profile: ":                func(s *custody.KeySet) { s.Profile = "cards/own.yaml" },
		"timeZone: ":               func(s *custody.KeySet) { s.TimeZone = "Mars" },
		"issuer: ":                 func(s *custody.KeySet) { s.Issuer, s.Factors = "neither", nil },
		"key gd/load/2: id \"00\"": func(s *custody.KeySet) { s.Keys[0].ID = "00" },
		"key gd/load/2: ":          func(s *custody.KeySet) { s.Keys[0].KCV.Value = "0A" },
	} {
		other := set
		other.Keys = []custody.Key{set.Keys[0]}
		change(&other)
		_, err := FromCatalogue(other)
		require.ErrorContains(t, err, "key set gd: "+says)
	}
}

func TestEveryProblemIsNamedAtOnce(t *testing.T) {
	dir := folder(t)
	text := good
	for old, changed := range map[string]string{
		"admin: 127.0.0.1:7444": "admin: 10.0.0.1:7444", "label: pursekeeper-demo": "label: ''", "role: platform": "role: x",
		"timeZone: UTC": "timeZone: Mars", "state: deactivated": "state: gone",
	} {
		text = strings.Replace(text, old, changed, 1)
	}
	_, err := readText(t, dir, text)
	var invalid *Invalid
	require.ErrorAs(t, err, &invalid)
	var fields []string
	for _, p := range invalid.Problems {
		fields = append(fields, p.Field)
		assert.NotZero(t, p.Line, p.Field)
	}
	assert.Equal(t, []string{"admin", "token.label", "clients[0].role", "keySets[1].timeZone", "keySets[1].keys[0].state"}, fields)

	_, err = readText(t, dir, "a: 1\nlog: {levle: x, lvel: 012}\n")
	require.ErrorAs(t, err, &invalid)
	assert.Len(t, invalid.Problems, 4)
}

func TestAnEmptyConfigurationNamesAllThatIsMissing(t *testing.T) {
	_, err := New(File{}, t.TempDir())
	for _, field := range []string{"listen", "admin", "tls.certificate", "tls.key", "tls.clientCA", "token.module", "token.label", "token.pin",
		"store", "audit.directory"} {
		require.ErrorContains(t, err, "configuration: "+field+": ")
	}
	for _, text := range []string{"", "# nothing\n", "[]", "text", "a: b: c", "listen: \"x"} {
		_, err := readText(t, t.TempDir(), text)
		var invalid *Invalid
		require.ErrorAs(t, err, &invalid, text)
	}
	_, err = Read(filepath.Join(t.TempDir(), "none.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestAPrivateKeyThatOthersMayReadIsRefused(t *testing.T) {
	dir := folder(t)
	require.NoError(t, os.Chmod(filepath.Join(dir, "tls/server.key"), 0o640))
	_, err := readText(t, dir, good)
	require.ErrorContains(t, err, "tls.key: ")
	require.ErrorContains(t, err, "mode 0640")
}

func TestIssuerFactors(t *testing.T) {
	tests := []struct {
		written string
		levels  int
		card    bool
		path    string
	}{
		{"", 0, false, ""},
		{"issuerFactors: none", 0, false, ""},
		{"issuerFactors: card", 1, true, ""},
		{`issuerFactors: ["0102030405060708", "1112131415161718"]`, 2, false, "0102030405060708/1112131415161718"},
	}
	for _, test := range tests {
		t.Run(test.written, func(t *testing.T) {
			c, err := readText(t, folder(t), strings.Replace(good, `issuerFactors: ["1000100010001000"]`, test.written, 1))
			require.NoError(t, err)
			set := c.KeySets[0]
			assert.Equal(t, test.levels, set.IssuerLevels)
			assert.Equal(t, test.card, set.Issuer.FromCard)
			assert.Equal(t, test.path, set.Issuer.Fixed.String())
			assert.Equal(t, test.card, set.Profile.NeedsIssuerID(), "the profile agrees")
		})
	}
}

func TestAdminBeyondLoopbackIsSaidToBeInsecure(t *testing.T) {
	c, err := readText(t, folder(t), strings.Replace(good, "admin: 127.0.0.1:7444", "admin: 0.0.0.0:7444\nadminInsecureNonLoopback: true", 1))
	require.NoError(t, err)
	assert.Equal(t, "0.0.0.0:7444", c.Admin)
}

// The boundaries that a key may have are those that its token can keep, by the token's profile.
func TestBoundariesAreTheTokens(t *testing.T) {
	const all = "name: all\nxorKeys: 0x8000001B\nsm4: {keyType: 0x80000001, ecb: 0x80000002, cbc: 0x80000003, deriveEcb: 0x80000004}\n"
	for _, test := range []struct{ name, profile, tac, sm4, says string }{
		{"all in the token", "./all.yaml", "TOKEN", "TOKEN", ""},
		{"all at the card", "./all.yaml", "CARD", "CARD", ""},
		{"less than it could", "./all.yaml", "PROCESS", "PROCESS", ""},
		{"the fold alone", "thales-luna", "TOKEN", "PROCESS", ""},
		{"SM4 where there is none", "thales-luna", "TOKEN", "CARD", "keySets[1].keys[0].boundary: CARD: a token of profile thales-luna has no SM4; use PROCESS"},
		{"SM4 without derivation", "westone", "CARD", "CARD", ""},
		{"SM4 in a token that does not derive it", "westone", "CARD", "TOKEN", "boundary: TOKEN: a token of profile westone does not derive keys with SM4; use CARD"},
		{"a tac key where halves do not fold", "westone", "TOKEN", "CARD", "keySets[0].keys[2].boundary: TOKEN: a token of profile westone has no key-XOR-key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := folder(t)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "all.yaml"), []byte(all), 0o600))
			text := strings.Replace(good, "hang: 7s", "profile: "+test.profile, 1)
			text = strings.Replace(text, `boundary: CARD, kcv: "8ca64d"`, `boundary: `+test.tac+`, kcv: "8ca64d"`, 1)
			c, err := readText(t, dir, strings.Replace(text, "boundary: PROCESS", "boundary: "+test.sm4, 1))
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, strings.TrimSuffix(filepath.Base(test.profile), ".yaml"), c.Token.Profile.Name)
		})
	}
}
