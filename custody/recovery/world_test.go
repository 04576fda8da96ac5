package recovery

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/shamir"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// loadMaster is the demonstration card's (DESIGN, §4): a published test key.
const loadMaster = "F7C1734AABB56E2CE6E3AE76862FDC3B"

var changeOfTest = strings.Repeat("01", 16)

func bytesOf(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	require.NoError(t, err)
	return b
}

// loss is what is left of a signer whose token is gone: the backup file, its verifier, the officers' identities.
type loss struct {
	file       []byte
	verifier   note.Verifier
	public     string // the verifier's key
	signer     note.Signer
	identities []*age.X25519Identity
	catalogue  custody.Catalogue
	content    escrow.Content
}

// masters of the lost token: the same test key at every boundary, so that the published MACs say which key came back.
var masters = []struct {
	set      string
	alg      suite.Algorithm
	boundary keyderive.Boundary
}{
	{"des-card", suite.TDES, keyderive.BoundaryCard},
	{"des-token", suite.TDES, keyderive.BoundaryToken},
	{"sm4", suite.SM4, keyderive.BoundaryProcess},
}

// lose makes a token with three masters and a backup of it, and loses the token.
func lose(t *testing.T) *loss {
	t.Helper()
	ctx := t.Context()
	made := hsmtest.NewToken(t)
	token := openToken(t, made)
	l := &loss{}
	seed, err := escrow.NewSeed(rand.Reader)
	require.NoError(t, err)
	defer seed.Wipe()
	var holders []custody.Officer
	for _, name := range []string{"chen", "li-na", "zhao"} {
		identity, err := age.GenerateX25519Identity()
		require.NoError(t, err)
		l.identities = append(l.identities, identity)
		holders = append(holders, custody.Officer{Name: name, Key: "ssh-ed25519 AAAA", Recipient: identity.Recipient().String(), Since: time.Unix(1_790_000_000, 0).UTC()})
	}
	key, err := escrow.WrappingKey(seed)
	require.NoError(t, err)
	defer key.Wipe()
	value, err := token.ImportBackupKey(ctx, "first", key)
	require.NoError(t, err)
	shares, err := escrow.Split(rand.Reader, seed, 2, holders)
	require.NoError(t, err)
	recipient, err := escrow.FileRecipient(seed)
	require.NoError(t, err)
	l.catalogue = custody.Catalogue{
		Version: 2, Revision: 9, Quorum: policy.Quorum{Default: 1}, Officers: holders, Rules: policy.Rules{
			Clients: []policy.Client{
				{Name: "chen", Identity: "spiffe://test/chen", Role: policy.Officer},
				{Name: "platform", Identity: "spiffe://test/platform", Role: policy.Platform, KeySets: []string{"sm4"}, Suspended: true},
			},
			Policies: policy.Shipped(),
		},
		Transports: []custody.Transport{{Name: "bank", Bits: 128, KCV: custody.CheckValue{Value: "ABCDEF", Algorithm: "AES-CMAC"}, Label: "pursekeeper/transport/bank", Changed: changeOfTest}},
		Backup: &custody.Backup{
			KCV: custody.CheckValue{Value: value.String(), Algorithm: "AES-KW"}, Label: hsm.BackupKeyLabel("first"), Threshold: 2, Shares: shares,
			Recipient: recipient, Created: time.Unix(1_800_000_000, 0).UTC(), Changed: changeOfTest,
		},
	}
	for _, m := range masters {
		l.catalogue.KeySets = append(l.catalogue.KeySets, withMaster(t, token, m.set, m.alg, m.boundary, hsm.BackupUnder("first", value)))
	}
	none := l.catalogue.KeySets[1].Keys[0]
	none.Name, none.Label, none.Wrapped = custody.Name{Kind: keyderive.KindUnload, Version: 1}, "des-token/unload/1", ""
	gone := none
	gone.Version, gone.State = 2, custody.Destroyed
	l.catalogue.KeySets[1].Keys = append(l.catalogue.KeySets[1].Keys, none, gone)

	l.signer, l.verifier, l.public = signerOf(t)
	l.seal(t)
	require.NoError(t, token.Close())
	require.NoError(t, os.RemoveAll(filepath.Dir(made.ConfPath)))
	return l
}

func signerOf(t *testing.T) (note.Signer, note.Verifier, string) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, "pursekeeper/test")
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	verifier, err := note.NewVerifier(public)
	require.NoError(t, err)
	return signer, verifier, public
}

// seal makes the file of the catalogue.
func (l *loss) seal(t *testing.T) {
	t.Helper()
	line, err := l.catalogue.Encode()
	require.NoError(t, err)
	l.content = escrow.Content{Catalogue: string(line), Configuration: "listen: x\n"}
	l.file, err = escrow.Seal(escrow.Header{Created: time.Unix(1_800_000_100, 0).UTC(), Token: "lost", Program: "test"}, l.content, l.signer)
	require.NoError(t, err)
}

func withMaster(t *testing.T, token *hsm.Token, set string, alg suite.Algorithm, boundary keyderive.Boundary, under hsm.Backup) custody.KeySet {
	t.Helper()
	master := secret.Take(bytesOf(t, loadMaster))
	defer master.Wipe()
	block, err := alg.New(master.Reveal("test"))
	require.NoError(t, err)
	key := custody.Key{
		Name: custody.Name{Kind: keyderive.KindLoad, Version: 1}, State: custody.Active, Boundary: boundary, Label: set + "/load/1", Origin: "generated",
		KCV: custody.CheckValue{Value: kcv.Of(block).String(), Algorithm: alg.String()}, ID: strings.Repeat("ab", 16), Changed: changeOfTest,
	}
	definition := custody.Definition{Name: set, Algorithm: alg, Profile: "pboc-ep", Issuer: "fixed", Factors: []string{"1000100010001000"}, TimeZone: "Asia/Shanghai", MAC1FailureLimit: 5}
	spec, err := specOf(definition, key)
	require.NoError(t, err)
	wrapped, err := token.ImportMasterWithBackup(t.Context(), spec, master, under)
	require.NoError(t, err)
	key.Wrapped = hex.EncodeToString(wrapped)
	return custody.KeySet{Definition: definition, Keys: []custody.Key{key}}
}

// specOf is what the program makes of a definition with one fixed level.
func specOf(set custody.Definition, key custody.Key) (hsm.KeySpec, error) {
	value, err := kcv.Parse(key.KCV.Value)
	if err != nil {
		return hsm.KeySpec{}, err
	}
	id, err := hex.DecodeString(key.ID)
	return hsm.KeySpec{Label: key.Label, ID: hsm.ObjectID(id), Kind: key.Kind, Algorithm: set.Algorithm, Boundary: key.Boundary, KCV: value, IssuerLevels: len(set.Factors)}, err
}

func openToken(t *testing.T, made *hsmtest.Token, keys ...hsm.KeySpec) *hsm.Token {
	t.Helper()
	token, err := hsm.Open(context.Background(), hsm.Config{Module: made.Module, TokenLabel: made.Label, Keys: keys,
		PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(made.PIN)), nil }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, token.Close()) })
	return token
}

func openStore(t *testing.T, file string) *store.Database {
	t.Helper()
	s, err := store.OpenSQLite(context.Background(), file)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// seedOf brings the seed back with two officers' identities.
func (l *loss) seedOf(t *testing.T, file *escrow.File) secret.Bytes {
	t.Helper()
	var shares []shamir.Share
	for _, identity := range l.identities[1:] {
		_, share, err := escrow.OpenShare(file.Backup, identity)
		require.NoError(t, err)
		shares = append(shares, share)
	}
	seed, err := escrow.Combine(file.Backup, shares)
	require.NoError(t, err)
	t.Cleanup(seed.Wipe)
	return seed
}

// config is a restore of the loss.
func (l *loss) config(t *testing.T, token Token, to Store) Config {
	t.Helper()
	file, err := escrow.Read(l.file, l.verifier)
	require.NoError(t, err)
	return Config{Token: token, Store: to, File: file, Seed: l.seedOf(t, file), Spec: specOf, ID: strings.Repeat("ef", 16), Now: time.Unix(1_800_000_200, 0).UTC()}
}

// loadMAC2 does the load of the demonstration card (DESIGN, §4): the right MAC1 is demanded, and MAC2 returned.
func loadMAC2(t *testing.T, key keyderive.Key, mac1 string) string {
	t.Helper()
	card, err := keyderive.ParseFactor("3105228000001117")
	require.NoError(t, err)
	answer := make(chan keyderive.MAC, 1)
	err = keyderive.NewMaster(key, keyderive.RootFirst(keyderive.Factor(bytesOf(t, "1000100010001000")))).WithCard(t.Context(), card, func(card keyderive.Card) error {
		session, err := card.Session(keyderive.Factor(bytesOf(t, "A1B2C3D400078000")))
		if err != nil {
			return err
		}
		mac2, err := session.Answer(bytesOf(t, "000003E8 00000064 02 112233445566"), keyderive.MAC(bytesOf(t, mac1)), bytesOf(t, "00000064 02 112233445566 20240131 235959"))
		answer <- mac2
		return err
	})
	require.NoError(t, err)
	mac2 := <-answer
	return strings.ToUpper(hex.EncodeToString(mac2[:]))
}

var loadMACs = map[suite.Algorithm]struct{ mac1, mac2 string }{
	suite.TDES: {"7E1722D0", "60B7B5B7"},
	suite.SM4:  {"C9A6F09C", "1FF2DC09"},
}

// signs demands the published MAC2 of every master.
func signs(t *testing.T, token *hsm.Token) {
	t.Helper()
	for _, m := range masters {
		key, err := token.Key(m.set + "/load/1")
		require.NoError(t, err)
		require.Equal(t, loadMACs[m.alg].mac2, loadMAC2(t, key, loadMACs[m.alg].mac1), m.set)
	}
	require.NoError(t, token.Ready(t.Context()))
}

// write and readLoss take a loss to another process.
func (l *loss) write(t *testing.T, folder string) {
	t.Helper()
	identities := ""
	for _, identity := range l.identities {
		identities += identity.String() + "\n"
	}
	for name, content := range map[string]string{"backup": string(l.file), "identities": identities, "verifier": l.public} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600))
	}
}

func readLoss(t *testing.T, folder string) *loss {
	t.Helper()
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		return content
	}
	l := &loss{file: read("backup")}
	var err error
	l.verifier, err = note.NewVerifier(string(read("verifier")))
	require.NoError(t, err)
	for line := range strings.Lines(string(read("identities"))) {
		identity, err := age.ParseX25519Identity(strings.TrimSpace(line))
		require.NoError(t, err)
		l.identities = append(l.identities, identity)
	}
	return l
}
