package keyderive

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// MaxLineData is the most data of one frame, in bytes; the least is one.
const MaxLineData = 16384

// Sizes of a frame's parts.
const (
	frameHeader = 9
	frameMAC    = 8
	// frameLead is how much of the MAC's message the header is, with zeros: whole blocks of both suites.
	frameLead = 16
)

// MaxLineFrame is the longest frame in bytes.
const MaxLineFrame = frameHeader + MaxLineData + frameMAC

// The directions of a frame.
const (
	directionDown = 0x01 // to the module
	directionUp   = 0x02 // from the module
)

// flagLast says that the sender's stream ends with this frame.
const flagLast = 0x01

// Frame is the public part of a frame: what its header says. Nothing of it is believed before its MAC was compared.
type Frame struct {
	Sequence uint32
	Last     bool

	raw []byte
}

// header writes what a frame begins with.
//
//	version(1) = 01 | direction(1) | flags(1) | sequence(4) | length(2)
func (f Frame) header(direction byte, length int) []byte {
	b := append(make([]byte, 0, frameLead), lineVersion, direction, 0)
	if f.Last {
		b[2] |= flagLast
	}
	b = binary.BigEndian.AppendUint32(b, f.Sequence)
	return binary.BigEndian.AppendUint16(b, uint16(length))
}

// ParseUp reads a frame from the module, and refuses what no module sends.
//
//	header(9) ‖ ciphertext(length) ‖ MAC(8)
func ParseUp(raw []byte) (Frame, error) {
	if len(raw) < frameHeader+1+frameMAC {
		return Frame{}, fmt.Errorf("%d bytes, expected at least %d", len(raw), frameHeader+1+frameMAC)
	}
	f := Frame{Sequence: binary.BigEndian.Uint32(raw[3:7]), Last: raw[2] == flagLast, raw: raw}
	length := int(binary.BigEndian.Uint16(raw[7:9]))
	switch {
	case raw[0] != lineVersion:
		return Frame{}, fmt.Errorf("version %d, expected %d", raw[0], lineVersion)
	case raw[1] != directionUp:
		return Frame{}, errors.New("it is not a frame from the module")
	case raw[2]&^flagLast != 0:
		return Frame{}, errors.New("unknown flags")
	case f.Sequence == 0:
		return Frame{}, errors.New("sequence 0, expected 1 or more")
	case length < 1 || length > MaxLineData:
		return Frame{}, fmt.Errorf("length %d, expected 1 to %d", length, MaxLineData)
	case length != len(raw)-frameHeader-frameMAC:
		return Frame{}, fmt.Errorf("length %d, but %d bytes of ciphertext", length, len(raw)-frameHeader-frameMAC)
	}
	return f, nil
}

// Len is the length of its data in bytes.
func (f Frame) Len() int { return len(f.raw) - frameHeader - frameMAC }

// MAC is the frame's MAC as received, which tells frames apart and reveals nothing.
func (f Frame) MAC() []byte { return f.raw[len(f.raw)-frameMAC:] }

// LineBlocks is how many blocks of the suite's cipher a frame of so many bytes of data costs: those that its MAC covers, which are
// never fewer than those that encrypt it.
func LineBlocks(alg suite.Algorithm, length int) uint64 {
	size := alg.BlockSize()
	return uint64(frameLead/size + (length+size-1)/size)
}

// LineBudget is how many blocks the keys of one direction of a session may encipher. A cipher with blocks of 8 bytes shows
// something of its input when it has seen some billions of blocks; 2²⁰, 8 MiB, is what NIST SP 800-67 revision 2 leaves a 3DES
// key. Blocks of 16 bytes are bounded by the sequence number alone.
func LineBudget(alg suite.Algorithm) uint64 {
	if alg.BlockSize() == 8 {
		return 1 << 20
	}
	return 1 << 48
}

// line is the pair of keys of one direction on loan.
type line struct {
	alg          suite.Algorithm
	encrypt, mac Unit
}

// cipher encrypts or decrypts data in counter mode: the exclusive or with the encryption of the blocks
//
//	3DES             sequence(4) ‖ n(4)      n = 0, 1, 2 …
//	SM4   00 × 8  ‖  sequence(4) ‖ n(4)
//
// No block comes twice under one key: a sequence number is used once, and a frame is far shorter than 2³² blocks.
func (l line) cipher(sequence uint32, data []byte) ([]byte, error) {
	size := l.alg.BlockSize()
	count := (len(data) + size - 1) / size
	counters := make([]byte, count*size)
	for n := range count {
		end := (n + 1) * size
		binary.BigEndian.PutUint32(counters[end-8:], sequence)
		binary.BigEndian.PutUint32(counters[end-4:], uint32(n))
	}
	stream, err := l.encrypt.ECB(counters)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(data))
	subtle.XORBytes(out, data, stream)
	return out, nil
}

// sum is the leftmost eight bytes of the CBC-MAC, from a zero IV, of
//
//	header(9) ‖ 00 × 7 ‖ ciphertext ‖ 00 to a whole block
//
// The length in the header comes first, so no message is the beginning of another one: the CBC-MAC is then safe for any lengths.
func (l line) sum(header, ciphertext []byte) ([]byte, error) {
	size := l.alg.BlockSize()
	message := make([]byte, frameLead+(len(ciphertext)+size-1)/size*size)
	copy(message, header)
	copy(message[frameLead:], ciphertext)
	last, err := l.mac.CBC(nil, message)
	if err != nil {
		return nil, err
	}
	return last[:frameMAC], nil
}

// Down is the pair of keys of the frames to the module on loan.
type Down struct{ line line }

// Seal makes the frame of data, 1 to MaxLineData bytes. The caller has taken the sequence number for good before: two frames of
// one number would give away the difference of their data.
func (d Down) Seal(sequence uint32, last bool, data []byte) ([]byte, error) {
	if len(data) < 1 || len(data) > MaxLineData || sequence == 0 {
		return nil, fmt.Errorf("frame %d of %d bytes, expected 1 to %d", sequence, len(data), MaxLineData)
	}
	header := Frame{Sequence: sequence, Last: last}.header(directionDown, len(data))
	ciphertext, err := d.line.cipher(sequence, data)
	if err != nil {
		return nil, err
	}
	mac, err := d.line.sum(header, ciphertext)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{header, ciphertext, mac}, nil), nil
}

// Up is the pair of keys of the frames from the module on loan.
type Up struct{ line line }

// Verify compares the frame's MAC in constant time; a difference is ErrMismatch.
func (u Up) Verify(f Frame) error {
	end := len(f.raw) - frameMAC
	want, err := u.line.sum(f.raw[:frameHeader], f.raw[frameHeader:end])
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(want, f.raw[end:]) != 1 {
		return ErrMismatch
	}
	return nil
}

// Open verifies the frame and, only when its MAC is right, decrypts it. Whether its turn has come is the caller's to say.
func (u Up) Open(f Frame) ([]byte, error) {
	if err := u.Verify(f); err != nil {
		return nil, err
	}
	return u.line.cipher(f.Sequence, f.raw[frameHeader:len(f.raw)-frameMAC])
}
