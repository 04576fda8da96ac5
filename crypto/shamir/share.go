package shamir

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// SetID says which split a share is of. It is random, and public.
type SetID [8]byte

// String is 16 upper-case hex digits.
func (id SetID) String() string { return fmt.Sprintf("%X", id[:]) }

// Share is one of the shares of a split. All but its value is public. The zero Share is invalid.
type Share struct {
	Set       SetID
	Threshold int // how many shares make the secret
	Count     int // how many there are
	Index     int // which this is, from 1
	value     secret.Bytes
}

// The form of a share, in bytes:
//
//	0      1  form, 1
//	1      8  set
//	9      1  threshold
//	10     1  count
//	11     1  index
//	12     1  length of the secret
//	13     …  value: the share of secret | tag
//	13+…   4  checksum: the first bytes of SHA-256 over "pursekeeper share 1", a zero byte, and all before it
//
// It is written in base32 (RFC 4648, no padding), "PKS" before it, in groups of four characters with hyphens between them.
const (
	form         = 1
	headSize     = 13
	checksumSize = 4
	prefix       = "PKS"
	group        = 4

	checksumDomain = "pursekeeper share 1\x00"
)

var alphabet = base32.StdEncoding.WithPadding(base32.NoPadding)

func (s *Share) head() [headSize]byte {
	h := [headSize]byte{0: form, 9: byte(s.Threshold), 10: byte(s.Count), 11: byte(s.Index), 12: byte(s.value.Len() - tagSize)}
	copy(h[1:], s.Set[:])
	return h
}

// Encode writes the share for its custodian. The text is as secret as the share, in locked memory that the caller wipes.
func (s *Share) Encode() secret.Bytes {
	head := s.head()
	whole := secret.New(headSize + s.value.Len() + checksumSize)
	defer whole.Wipe()
	b := whole.Reveal("to write the share in bytes")
	n := copy(b, head[:])
	n += copy(b[n:], s.value.Reveal("to write it for its custodian"))
	sum := checksum(b[:n])
	copy(b[n:], sum[:])

	digits := secret.New(alphabet.EncodedLen(len(b)))
	defer digits.Wipe()
	d := digits.Reveal("to write the share in letters")
	alphabet.Encode(d, b)
	text := secret.New(len(prefix) + (len(d)+group-1)/group + len(d))
	out := text.Reveal("to group the letters")
	out = out[copy(out, prefix):]
	for i, c := range d {
		if i%group == 0 {
			out[0] = '-'
			out = out[1:]
		}
		out[0] = c
		out = out[1:]
	}
	return text
}

// Parse reads what Encode wrote, as a custodian typed it: small letters are taken, and spaces and hyphens anywhere. A share that was not
// typed as it was written is ErrChecksum, what is no share of this form ErrForm. text stays the caller's, who wipes it, and wipes the share.
func Parse(text []byte) (Share, error) {
	digits := secret.New(len(text))
	defer digits.Wipe()
	d := digits.Reveal("to collect the letters of a share")
	n := 0
	for _, c := range text {
		if c == '-' || c == ' ' {
			continue
		}
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		d[n] = c
		n++
	}
	d = d[:n]
	if len(d) < len(prefix) || string(d[:len(prefix)]) != prefix {
		return Share{}, fmt.Errorf("%w: expected it to begin with %s", ErrForm, prefix)
	}
	d = d[len(prefix):]
	whole := secret.New(alphabet.DecodedLen(len(d)))
	defer whole.Wipe()
	b := whole.Reveal("to read the letters of a share")
	if size, err := alphabet.Decode(b, d); err != nil || size != len(b) || !canonical(b, d) {
		return Share{}, fmt.Errorf("%w: expected the letters A to Z and the digits 2 to 7, as many as were written", ErrForm)
	}
	return read(b)
}

// canonical says whether the letters are the ones that the bytes are written as: the last letter has bits to spare.
func canonical(b, digits []byte) bool {
	again := secret.New(alphabet.EncodedLen(len(b)))
	defer again.Wipe()
	r := again.Reveal("to compare the letters of a share")
	alphabet.Encode(r, b)
	return subtle.ConstantTimeCompare(r, digits) == 1
}

// read reads the bytes of a share. The checksum comes first: of a share that was typed wrong nothing else is worth saying.
func read(b []byte) (Share, error) {
	if len(b) < headSize+minSecret+tagSize+checksumSize {
		return Share{}, fmt.Errorf("%w: it is too short", ErrForm)
	}
	body, sum := b[:len(b)-checksumSize], b[len(b)-checksumSize:]
	if want := checksum(body); subtle.ConstantTimeCompare(want[:], sum) != 1 {
		return Share{}, ErrChecksum
	}
	s := Share{Set: SetID(b[1:9]), Threshold: int(b[9]), Count: int(b[10]), Index: int(b[11])}
	if b[0] != form {
		return Share{}, fmt.Errorf("%w: form %d, expected %d", ErrForm, b[0], form)
	}
	if err := checkNumbers(s.Threshold, s.Count, int(b[12])); err != nil {
		return Share{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if s.Index < 1 || s.Index > s.Count {
		return Share{}, fmt.Errorf("%w: share %d of %d", ErrForm, s.Index, s.Count)
	}
	if len(body) != headSize+int(b[12])+tagSize {
		return Share{}, fmt.Errorf("%w: its length is not the one that it says", ErrForm)
	}
	s.value = secret.Copy(body[headSize:])
	return s, nil
}

func checksum(body []byte) (sum [checksumSize]byte) {
	h := sha256.New()
	h.Write([]byte(checksumDomain))
	h.Write(body)
	copy(sum[:], h.Sum(nil))
	return sum
}

// Wipe wipes the value.
func (s *Share) Wipe() { s.value.Wipe() }

// Format prints what is public of the share, under every verb and flag.
func (s Share) Format(to fmt.State, _ rune) { _, _ = io.WriteString(to, s.String()) }

// String is such as "share 2 of 5, any 3, set 0102030405060708".
func (s Share) String() string {
	return fmt.Sprintf("share %d of %d, any %d, set %s", s.Index, s.Count, s.Threshold, hex.EncodeToString(s.Set[:]))
}

// MarshalText is what String says, for JSON and logs.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
