package tiles

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// Witness is the key of a witness: one who signs a log's checkpoints, each after it was proved to go on from the last that he signed. It verifies
// C2SP tlog-cosignature, version 1. As a verifier key, NAME+HASH+KEY:
//
//	KEY   base64 of 04 | the Ed25519 public key (32)
//	HASH  8 hex digits, the first 4 bytes of SHA-256 over NAME | 0A | 04 | public key
//
// It is a [note.Verifier]. What is signed is
//
//	cosignature/v1
//	time T, seconds since 1970, decimal
//	the checkpoint's text
//
// and the signature T (8, big-endian) | Ed25519 (64).
type Witness struct {
	name   string
	hash   uint32
	public ed25519.PublicKey
}

// cosignatureV1 is the algorithm byte of a key that cosigns.
const cosignatureV1 = 4

const timeSize = 8

// ParseWitness reads a verifier key of the kind above, and refuses any other kind.
func ParseWitness(text string) (*Witness, error) {
	refuse := func(problem string) (*Witness, error) {
		return nil, fmt.Errorf("key of a witness: %s, expected NAME+HASH+KEY of the type cosignature/v1", problem)
	}
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 || parts[0] == "" || !utf8.ValidString(parts[0]) || strings.ContainsFunc(parts[0], unicode.IsSpace) {
		return refuse("not in three parts, or a name with spaces")
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil || len(parts[1]) != 8 {
		return refuse("its hash is not eight hex digits")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	switch {
	case err != nil || len(key) != 1+ed25519.PublicKeySize:
		return refuse("its third part is not the base64 of 33 bytes")
	case key[0] != cosignatureV1:
		return refuse(fmt.Sprintf("it has the type %d, not 4", key[0]))
	}
	w := &Witness{name: parts[0], hash: uint32(hash), public: key[1:]}
	if w.hash != WitnessHash(w.name, w.public) {
		return refuse("its hash is another key's")
	}
	return w, nil
}

// WitnessHash is the hash that a verifier key and a signature line name the key by.
func WitnessHash(name string, public ed25519.PublicKey) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n\x04"), public...))
	return binary.BigEndian.Uint32(sum[:])
}

// Name is the witness's own name.
func (w *Witness) Name() string { return w.name }

// KeyHash is what a signature line names the key by.
func (w *Witness) KeyHash() uint32 { return w.hash }

// Same reports whether the two have one key: by another name it is no other witness, for the name is not signed.
func (w *Witness) Same(other *Witness) bool { return w.public.Equal(other.public) }

// Verify reports whether sig is a cosignature of the checkpoint's text.
func (w *Witness) Verify(text, sig []byte) bool {
	if len(sig) != timeSize+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at < 1<<63 && ed25519.Verify(w.public, CosignedMessage(text, at), sig[timeSize:])
}

// CosignedMessage is what a witness signs of a checkpoint's text at a time in seconds since 1970.
func CosignedMessage(text []byte, at uint64) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), text...)
}

// ErrNotCosigned is the error of a checkpoint that a witness has not signed.
var ErrNotCosigned = errors.New("the checkpoint is not cosigned by the witness")

// OpenCosigned verifies a checkpoint of the log that has the key, with the signature of a witness, and returns when he signed it; of several
// signatures of his the first counts.
func OpenCosigned(signed []byte, key note.Verifier, w *Witness) (c Checkpoint, at time.Time, err error) {
	if c, err = OpenCheckpoint(signed, key); err != nil {
		return c, at, err
	}
	opened, err := note.Open(signed, note.VerifierList(w))
	if err != nil {
		return c, at, fmt.Errorf("%w %s+%08x: %w", ErrNotCosigned, w.name, w.hash, err)
	}
	raw, err := base64.StdEncoding.DecodeString(opened.Sigs[0].Base64)
	if err != nil || len(raw) < 4+timeSize {
		return c, at, fmt.Errorf("bug: a signature that was verified has %d bytes", len(raw))
	}
	return c, time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC(), nil
}

// Cosigned is where the newest checkpoint lies that a witness signed: DIR/cosigned/ and the eight hex digits of his key's hash.
func (w *Witness) cosigned() string { return fmt.Sprintf("cosigned/%08x", w.hash) }

// Cosigned reads the newest checkpoint that a witness signed; empty when there is none.
func (f Folder) Cosigned(w *Witness) ([]byte, error) { return f.read(w.cosigned()) }

// PublishCosigned replaces it, durably.
func (f Folder) PublishCosigned(w *Witness, signed string) error {
	if err := f.replace(w.cosigned(), signed); err != nil {
		return err
	}
	return f.syncFolders(map[string]bool{"cosigned": true, ".": true})
}

// AddCosignature adds a witness's signature line to the published checkpoint, in place of an earlier one of his, when it still is the one that
// it is of. Only who publishes checkpoints may call it, and not while he does.
func (f Folder) AddCosignature(c Checkpoint, w *Witness, line string) error {
	signed, err := f.Checkpoint()
	rest, same := strings.CutPrefix(string(signed), c.Text()+"\n")
	if err != nil || !same {
		return err
	}
	next := c.Text() + "\n"
	for had := range strings.Lines(rest) {
		if !w.signed(had) {
			next += had
		}
	}
	return f.PublishCheckpoint(next + line)
}

// Line is the first signature line of a text that names the witness and his key; all others are left out, unread. It is not verified. One
// is all that a key has to say: a note with too many is none, so who could add more could make an end of the checkpoint.
func (w *Witness) Line(text string) string {
	for line := range strings.Lines(text) {
		if w.signed(line) {
			return line
		}
	}
	return ""
}

func (w *Witness) signed(line string) bool {
	line, ended := strings.CutSuffix(line, "\n")
	sig, named := strings.CutPrefix(line, "— "+w.name+" ")
	raw, err := base64.StdEncoding.DecodeString(sig)
	return ended && named && err == nil && len(raw) >= 4 && binary.BigEndian.Uint32(raw) == w.hash
}

// Bare is a signed checkpoint with the log's own signature alone.
func Bare(signed []byte, key note.Verifier) (string, error) {
	opened, err := note.Open(signed, note.VerifierList(key))
	if err != nil {
		return "", err
	}
	opened.UnverifiedSigs = nil
	bare, err := note.Sign(opened)
	return string(bare), err
}
