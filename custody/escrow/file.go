package escrow

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// What a backup file is refused for.
var (
	ErrForm      = errors.New("not a backup file")
	ErrSignature = errors.New("the backup file is not signed by this key")
	ErrAltered   = errors.New("the backup file was altered")
	ErrRevision  = errors.New("the backup file holds another revision")
)

const (
	formatLine = "pursekeeper-backup/v1"
	sealInfo   = "pursekeeper backup v1: sealed content"
	bodyType   = "PURSEKEEPER BACKUP"
	maxFile    = 16 << 20
)

// Header is what a backup file says in clear, under its signature.
type Header struct {
	Created   time.Time      `json:"created"`
	Token     string         `json:"token"`
	Program   string         `json:"program"`
	Revision  uint64         `json:"revision"`  // of the catalogue
	Catalogue string         `json:"catalogue"` // its digest
	Backup    custody.Backup `json:"backup"`    // the shares that open it
	Sealed    string         `json:"sealed"`    // SHA-256 of the sealed content, hex
}

// Content is what is sealed.
type Content struct {
	Catalogue     string `json:"catalogue"`     // canonical, as custody.Catalogue encodes it
	Configuration string `json:"configuration"` // the configuration's file: clients and policy
	AuditKey      string `json:"auditKey"`      // that verifies the sealed record
}

// File is a backup file that was read.
type File struct {
	Header
	sealed []byte
}

// Seal writes a backup file:
//
//	pursekeeper-backup/v1
//	{the header as one line of JSON}
//
//	— origin signature                          a signed note, by the token's Ed25519 key
//	-----BEGIN PURSEKEEPER BACKUP-----
//	the content, sealed to the file recipient   HPKE (RFC 9180): X25519, HKDF-SHA-256, AES-256-GCM
//	-----END PURSEKEEPER BACKUP-----
//
// h has the time, the token and the program; everything else is the content's.
func Seal(h Header, content Content, signer note.Signer) ([]byte, error) {
	if err := h.describe(content); err != nil {
		return nil, err
	}
	recipient, err := parseRecipient(h.Backup.Recipient)
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	sealed, err := hpke.Seal(recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(sealInfo), plain)
	if err != nil {
		return nil, err
	}
	h.Sealed = digest(sealed)
	signed, err := signHeader(h, signer)
	if err != nil {
		return nil, err
	}
	return append(signed, pem.EncodeToMemory(&pem.Block{Type: bodyType, Bytes: sealed})...), nil
}

func signHeader(h Header, signer note.Signer) ([]byte, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: formatLine + "\n" + string(line) + "\n"}, signer)
}

// ErrNoBackup: the catalogue has no backup key, so there is nothing to seal to.
var ErrNoBackup = errors.New("there is no backup key: it is made by a ceremony, create-backup")

// describe fills in what the header says of the catalogue.
func (h *Header) describe(content Content) error {
	catalogue, err := custody.DecodeCatalogue([]byte(content.Catalogue))
	if err != nil {
		return err
	}
	if catalogue.Backup == nil {
		return ErrNoBackup
	}
	h.Revision, h.Catalogue, h.Backup = catalogue.Revision, digest([]byte(content.Catalogue)), *catalogue.Backup
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Read verifies a backup file's signature, and that the sealed content is the signed one.
func Read(data []byte, verifier note.Verifier) (*File, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%w: over %d bytes", ErrForm, maxFile)
	}
	begin := bytes.Index(data, []byte("\n-----BEGIN "+bodyType)) + 1
	if begin == 0 || !bytes.HasPrefix(data, []byte(formatLine+"\n")) {
		return nil, ErrForm
	}
	signed, err := note.Open(data[:begin], note.VerifierList(verifier))
	var unverified *note.UnverifiedNoteError
	var wrong *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified), errors.As(err, &wrong):
		return nil, fmt.Errorf("%w: %s", ErrSignature, verifier.Name())
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	f := &File{}
	line, found := strings.CutSuffix(strings.TrimPrefix(signed.Text, formatLine+"\n"), "\n")
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f.Header); err != nil || !found {
		return nil, fmt.Errorf("%w: header: %v", ErrForm, err)
	}
	body, _ := pem.Decode(data[begin:])
	if body == nil || !bytes.Equal(pem.EncodeToMemory(body), data[begin:]) {
		return nil, fmt.Errorf("%w: the sealed content cannot be read", ErrAltered)
	}
	if digest(body.Bytes) != f.Sealed {
		return nil, fmt.Errorf("%w: the sealed content is not the signed one", ErrAltered)
	}
	f.sealed = body.Bytes
	return f, nil
}

// Open opens the content with the seed, and compares it with the header.
func (f *File) Open(seed secret.Bytes) (Content, custody.Catalogue, error) {
	if err := Prove(f.Backup, seed); err != nil {
		return Content{}, custody.Catalogue{}, err
	}
	key, err := fileKey(seed)
	if err != nil {
		return Content{}, custody.Catalogue{}, err
	}
	plain, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(sealInfo), f.sealed)
	if err != nil {
		return Content{}, custody.Catalogue{}, fmt.Errorf("%w: it does not open", ErrAltered)
	}
	var content Content
	decoder := json.NewDecoder(bytes.NewReader(plain))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&content); err != nil {
		return Content{}, custody.Catalogue{}, fmt.Errorf("%w: content: %w", ErrForm, err)
	}
	catalogue, err := custody.DecodeCatalogue([]byte(content.Catalogue))
	if err != nil {
		return Content{}, custody.Catalogue{}, err
	}
	inside := f.Header
	if err := inside.describe(content); err != nil {
		return Content{}, custody.Catalogue{}, err
	}
	if !reflect.DeepEqual(inside, f.Header) {
		return Content{}, custody.Catalogue{}, fmt.Errorf("%w: the header says another catalogue than is inside", ErrAltered)
	}
	return content, catalogue, nil
}

// Expect refuses a file of another revision than the newest that is known: an older one would bring back keys, and officers, that
// were removed since.
func (f *File) Expect(revision uint64) error {
	if f.Revision != revision {
		return fmt.Errorf("%w: %d, expected %d", ErrRevision, f.Revision, revision)
	}
	return nil
}
