package escrow

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/crypto/shamir"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/policy"
)

// testSeed is a seed of this test and of no backup.
func testSeed(t *testing.T, first byte) secret.Bytes {
	seed := secret.New(SeedSize)
	seed.Reveal("test")[0] = first
	t.Cleanup(seed.Wipe)
	return seed
}

// What is derived of a seed never changes, or backups that were made would not open any more: computed independently by
// Python, HKDF of its hmac and X25519 by RFC 7748's ladder.
func TestDerivations(t *testing.T) {
	seed := testSeed(t, 1)
	key, err := WrappingKey(seed)
	require.NoError(t, err)
	defer key.Wipe()
	assert.Equal(t, "763907aa6a298c18739edbbe7869d53b57c9b4c02a75b1f5a749477252cbc56e", fmt.Sprintf("%x", key.Reveal("test")))
	recipient, err := FileRecipient(seed)
	require.NoError(t, err)
	assert.Equal(t, "60cc6a352447d1363180ccef5cd558698cd216bca943b873778a58552883cc1f", recipient)
	_, err = WrappingKey(secret.Bytes{})
	require.ErrorContains(t, err, "expected 32")
}

// holder is an officer with the private half of what its shares go to.
type holder struct {
	custody.Officer
	identity age.Identity
}

// sshHolder makes a key with the real ssh-keygen.
func sshHolder(t *testing.T, name, kind string) holder {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	public, err := os.ReadFile(file + ".pub")
	require.NoError(t, err)
	private, err := os.ReadFile(file)
	require.NoError(t, err)
	h := holder{Officer: custody.Officer{Name: name, Key: strings.TrimSpace(string(public))}}
	if kind == "ed25519" || kind == "rsa" {
		h.identity, err = agessh.ParseIdentity(private)
		require.NoError(t, err)
	}
	return h
}

func ageHolder(t *testing.T, name string) holder {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	return holder{custody.Officer{Name: name, Key: "ssh-ed25519 unused", Recipient: identity.Recipient().String()}, identity}
}

func threeHolders(t *testing.T) []holder {
	return []holder{sshHolder(t, "li-na", "ed25519"), sshHolder(t, "wang-wei", "rsa"), ageHolder(t, "zhao")}
}

func officers(holders []holder) (list []custody.Officer) {
	for _, h := range holders {
		list = append(list, h.Officer)
	}
	return list
}

// backupOf makes a backup key of a new seed, two of three.
func backupOf(t *testing.T, holders []holder) (custody.Backup, secret.Bytes) {
	t.Helper()
	seed, err := NewSeed(rand.Reader)
	require.NoError(t, err)
	t.Cleanup(seed.Wipe)
	shares, err := Split(rand.Reader, seed, 2, officers(holders))
	require.NoError(t, err)
	recipient, err := FileRecipient(seed)
	require.NoError(t, err)
	return custody.Backup{
		KCV: custody.CheckValue{Value: "ABCDEF", Algorithm: "AES-KW"}, Label: "pursekeeper/backup/test", Threshold: 2, Shares: shares,
		Recipient: recipient, Created: time.Unix(1_800_000_000, 0).UTC(), Changed: strings.Repeat("0", 32),
	}, seed
}

func open(t *testing.T, backup custody.Backup, holders ...holder) (shares []shamir.Share) {
	t.Helper()
	for _, h := range holders {
		who, share, err := OpenShare(backup, h.identity)
		require.NoError(t, err)
		assert.Equal(t, h.Name, who)
		shares = append(shares, share)
	}
	return shares
}

func TestAnyTwoOfThreeBringTheSeedBack(t *testing.T) {
	holders := threeHolders(t)
	backup, seed := backupOf(t, holders)
	for _, pair := range [][2]int{{0, 1}, {1, 2}, {2, 0}} {
		again, err := Combine(backup, open(t, backup, holders[pair[0]], holders[pair[1]]))
		require.NoError(t, err)
		assert.True(t, again.Equal(seed))
		again.Wipe()
	}
}

func TestWrongShares(t *testing.T) {
	holders := threeHolders(t)
	backup, _ := backupOf(t, holders)
	other, _ := backupOf(t, holders)
	mine, theirs := open(t, backup, holders...), open(t, other, holders...)

	altered := backup
	altered.Shares = append([]custody.Share(nil), backup.Shares...)
	lines := strings.Split(altered.Shares[2].Ciphertext, "\n")
	flipped := []byte(lines[len(lines)-3])
	flipped[10] ^= 1
	lines[len(lines)-3] = string(flipped)
	altered.Shares[2].Ciphertext = strings.Join(lines, "\n")

	tests := []struct {
		name string
		do   func() error
		want error
	}{
		{"too few", func() error { _, err := Combine(backup, mine[:1]); return err }, shamir.ErrTooFew},
		{"none", func() error { _, err := Combine(backup, nil); return err }, shamir.ErrTooFew},
		{"one twice", func() error { _, err := Combine(backup, []shamir.Share{mine[0], mine[0]}); return err }, shamir.ErrDuplicate},
		{"mixed", func() error { _, err := Combine(backup, []shamir.Share{mine[0], theirs[1]}); return err }, shamir.ErrOtherSet},
		{"of another backup", func() error { _, err := Combine(backup, theirs); return err }, ErrOtherSeed},
		{"a stranger's identity", func() error { _, _, err := OpenShare(backup, ageHolder(t, "eve").identity); return err }, ErrIdentity},
	}
	for _, test := range tests {
		require.ErrorIs(t, test.do(), test.want, test.name)
	}
	_, _, err := OpenShare(altered, holders[2].identity)
	require.ErrorContains(t, err, "share of zhao")
}

// Keys that only sign are refused before there is a seed, with what helps.
func TestKeysThatOnlySign(t *testing.T) {
	_, err := RecipientOf(sshHolder(t, "chen", "ecdsa").Officer)
	require.ErrorIs(t, err, ErrRecipient)
	require.ErrorContains(t, err, "officer chen")
	require.ErrorContains(t, err, "age recipient")
	_, err = RecipientOf(custody.Officer{Name: "chen", Recipient: "age1nonsense"})
	require.ErrorIs(t, err, ErrRecipient)
	_, err = RecipientOf(custody.Officer{Name: "chen", Recipient: ageHolder(t, "x").Recipient + "\n" + ageHolder(t, "x").Recipient})
	require.ErrorIs(t, err, ErrRecipient)
}

func signerOf(t *testing.T, name string) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, name)
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	verifier, err := note.NewVerifier(public)
	require.NoError(t, err)
	return signer, verifier
}

func contentOf(t *testing.T, backup *custody.Backup, revision uint64) Content {
	t.Helper()
	line, err := custody.Catalogue{Revision: revision, Quorum: policy.Quorum{Default: 1}, Officers: []custody.Officer{{Name: "li-na", Key: "k"}}, Backup: backup}.Encode()
	require.NoError(t, err)
	return Content{Catalogue: string(line), Configuration: "listen: x\n", AuditKey: "test+key"}
}

func TestABackupFileComesBack(t *testing.T) {
	backup, seed := backupOf(t, threeHolders(t))
	signer, verifier := signerOf(t, "pursekeeper/test")
	content := contentOf(t, &backup, 7)
	data, err := Seal(Header{Created: time.Unix(1_800_000_001, 0).UTC(), Token: "test", Program: "test"}, content, signer)
	require.NoError(t, err)
	assert.NotContains(t, string(data), "listen")

	file, err := Read(data, verifier)
	require.NoError(t, err)
	assert.Equal(t, backup, file.Backup)
	require.NoError(t, file.Expect(7))
	got, catalogue, err := file.Open(seed)
	require.NoError(t, err)
	assert.Equal(t, content, got)
	assert.EqualValues(t, 7, catalogue.Revision)
}

func TestWrongBackupFiles(t *testing.T) {
	backup, seed := backupOf(t, threeHolders(t))
	other, otherSeed := backupOf(t, threeHolders(t))
	signer, verifier := signerOf(t, "pursekeeper/test")
	stranger, _ := signerOf(t, "pursekeeper/test")
	seal := func(b *custody.Backup, by note.Signer) []byte {
		data, err := Seal(Header{Token: "test"}, contentOf(t, b, 7), by)
		require.NoError(t, err)
		return data
	}
	good := seal(&backup, signer)
	read := func(data []byte) error { _, err := Read(data, verifier); return err }
	opened := func(data []byte, with secret.Bytes) error {
		file, err := Read(data, verifier)
		require.NoError(t, err)
		_, _, err = file.Open(with)
		return err
	}
	begin := bytes.Index(good, []byte("\n-----BEGIN")) + 1
	graft := append(bytes.Clone(good[:begin]), seal(&backup, signer)[begin:]...) // content of another file of the same seed
	flipped := bytes.Clone(good)
	flipped[begin+60] ^= 1

	// Signed, and yet not what its header says: only whoever has the token's key could make it.
	file, err := Read(good, verifier)
	require.NoError(t, err)
	lying := file.Header
	lying.Revision = 8
	swapped := signedWith(t, lying, file.sealed, signer)
	broken := file.Header
	cut := file.sealed[:len(file.sealed)-1]
	broken.Sealed = digest(cut)

	tests := []struct {
		name string
		err  error
		want error
	}{
		{"empty", read(nil), ErrForm},
		{"something else", read([]byte("-----BEGIN PURSEKEEPER BACKUP-----\n")), ErrForm},
		{"cut", read(good[:len(good)-10]), ErrAltered},
		{"something after it", read(append(bytes.Clone(good), '\n')), ErrAltered},
		{"a flipped bit of the content", read(flipped), ErrAltered},
		{"the content of another file", read(graft), ErrAltered},
		{"a flipped bit of the header", read(bytes.Replace(good, []byte(`"revision":7`), []byte(`"revision":6`), 1)), ErrSignature},
		{"another token's file", read(seal(&backup, stranger)), ErrSignature},
		{"too large", read(append(bytes.Clone(good), make([]byte, maxFile)...)), ErrForm},
		{"another seed", opened(good, otherSeed), ErrOtherSeed},
		{"another seed's file", opened(seal(&other, signer), seed), ErrOtherSeed},
		{"a lying header", opened(swapped, seed), ErrAltered},
		{"content that does not open", opened(signedWith(t, broken, cut, signer), seed), ErrAltered},
		{"an older file", file.Expect(8), ErrRevision},
	}
	for _, test := range tests {
		require.ErrorIs(t, test.err, test.want, test.name)
	}
	_, err = Seal(Header{}, contentOf(t, nil, 7), signer)
	require.ErrorIs(t, err, ErrNoBackup)
}

func signedWith(t *testing.T, h Header, sealed []byte, signer note.Signer) []byte {
	t.Helper()
	signed, err := signHeader(h, signer)
	require.NoError(t, err)
	return append(signed, pem.EncodeToMemory(&pem.Block{Type: bodyType, Bytes: sealed})...)
}

// An Ed25519 key verifies the file as it verifies the log: by the note's own rules.
func TestTheSignatureIsANote(t *testing.T) {
	backup, _ := backupOf(t, threeHolders(t))
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	text, err := note.NewEd25519VerifierKey("pursekeeper/test", public)
	require.NoError(t, err)
	verifier, err := note.NewVerifier(text)
	require.NoError(t, err)
	data, err := Seal(Header{Token: "test"}, contentOf(t, &backup, 1), rawSigner{verifier, private})
	require.NoError(t, err)
	_, err = Read(data, verifier)
	require.NoError(t, err)
}

type rawSigner struct {
	note.Verifier
	private ed25519.PrivateKey
}

func (s rawSigner) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.private, msg), nil }

// Whatever is read is refused, but the file itself.
func FuzzRead(f *testing.F) {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // a test key
	text, err := note.NewEd25519VerifierKey("pursekeeper/test", private.Public().(ed25519.PublicKey))
	require.NoError(f, err)
	verifier, err := note.NewVerifier(text)
	require.NoError(f, err)
	signed, err := signHeader(Header{Token: "test", Sealed: digest([]byte("sealed"))}, rawSigner{verifier, private})
	require.NoError(f, err)
	good := append(signed, pem.EncodeToMemory(&pem.Block{Type: bodyType, Bytes: []byte("sealed")})...)
	_, err = Read(good, verifier)
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), good...))
	f.Add(bytes.ToLower(good))
	f.Add([]byte(formatLine + "\n\n-----BEGIN " + bodyType))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := Read(data, verifier); err == nil {
			assert.Equal(t, good, data)
		}
	})
}
