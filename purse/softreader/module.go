// Package softreader is a reader's secure module in software: the device's side of docs/line-protection.md, in both suites, for
// tests, demonstrations and clients that have no module at hand. It is no secure element: its key is in ordinary memory.
//
//	module, err := softreader.New(softreader.Options{…})
//	challenge, proof, err := module.Answer(hostChallenge)    // what Authenticate sends
//	err = module.Accept(hostProof)                           // the signer has proved the key too
//	frame, err := module.Seal(data, last)                    // what Open sends
//	data, last, err := module.Open(frame)                    // what Seal answered
//
// It is the other side of the wire, so it shares no MAC path with the host: of this project it uses the block ciphers of crypto
// and lays out and computes everything itself.
package softreader

import (
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// Options is a module to be made.
type Options struct {
	Algorithm suite.Algorithm
	Number    [8]byte  // device number
	Key       [16]byte // the device key: the master diversified by the issuer levels and the device number
	Random    io.Reader
}

// Module is one module. It serves one session at a time, and one caller.
type Module struct {
	alg    suite.Algorithm
	number [8]byte
	key    cipher.Block
	random io.Reader

	// The session, nil and zero before the first Answer.
	authenticate     cipher.Block
	host, own        [8]byte
	open             bool
	down, up         direction
	sent, received   uint32
	sentEnd, recvEnd bool
}

// direction is the two keys of one direction.
type direction struct{ encrypt, mac cipher.Block }

// Errors of a module.
var (
	ErrProof    = errors.New("softreader: the host's proof is wrong")
	ErrFrame    = errors.New("softreader: the frame is not the next one from the host")
	ErrSequence = errors.New("softreader: the frame is repeated or out of order")
	ErrState    = errors.New("softreader: no session is open that way")
)

// New makes a module.
func New(o Options) (*Module, error) {
	if o.Random == nil {
		return nil, errors.New("softreader: no source of randomness")
	}
	key, err := o.Algorithm.New(o.Key[:])
	if err != nil {
		return nil, fmt.Errorf("softreader: %w", err)
	}
	return &Module{alg: o.Algorithm, number: o.Number, key: key, random: o.Random}, nil
}

// Diversify derives a device key from a master: level after level, the root's factor first, the device number last. It is the
// module maker's own computation, for test masters.
//
//	3DES: DK = E(MK,F) ‖ E(MK,~F)      SM4: DK = E(MK, F ‖ ~F)
func Diversify(alg suite.Algorithm, master [16]byte, factors ...[8]byte) ([16]byte, error) {
	key := master
	for _, f := range factors {
		block, err := alg.New(key[:])
		if err != nil {
			return key, fmt.Errorf("softreader: %w", err)
		}
		var in [16]byte
		for i, b := range f {
			in[i], in[8+i] = b, ^b
		}
		copy(key[:], encipher(block, in[:]))
	}
	return key, nil
}

// Format prints the device number and nothing else.
func (m *Module) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "softreader %X", m.number) }

// Answer begins a session: it draws the module's challenge, and proves the device key to the host. What was before is forgotten.
func (m *Module) Answer(host [8]byte) (own, proof [8]byte, err error) {
	if _, err := io.ReadFull(m.random, own[:]); err != nil {
		return own, proof, fmt.Errorf("softreader: %w", err)
	}
	m.host, m.own, m.open = host, own, false
	m.sent, m.received, m.sentEnd, m.recvEnd = 0, 0, false, false
	for label, key := range map[string]*cipher.Block{
		"authenticate": &m.authenticate, "encrypt down": &m.down.encrypt, "mac down": &m.down.mac,
		"encrypt up": &m.up.encrypt, "mac up": &m.up.mac,
	} {
		if *key, err = m.working(label); err != nil {
			return own, proof, err
		}
	}
	return own, m.proof(1), nil
}

// Accept verifies the host's proof; the session is open then.
func (m *Module) Accept(host [8]byte) error {
	if m.authenticate == nil {
		return ErrState
	}
	want := m.proof(2)
	if subtle.ConstantTimeCompare(want[:], host[:]) != 1 {
		m.authenticate = nil
		return ErrProof
	}
	m.open = true
	return nil
}

// working opens one of the session's keys.
func (m *Module) working(label string) (cipher.Block, error) {
	h := sha256.New()
	h.Write([]byte("pursekeeper line 1 " + label))
	h.Write(m.number[:])
	h.Write(m.host[:])
	h.Write(m.own[:])
	return m.alg.New(encipher(m.key, h.Sum(nil)[:16]))
}

// proof is what the module (1) or the host (2) proves the key with.
func (m *Module) proof(role byte) (p [8]byte) {
	message := []byte{role, 1, 7: 0}
	message = append(message, m.host[:]...)
	message = append(message, m.own[:]...)
	message = append(message, m.number[:]...)
	copy(p[:], chain(m.authenticate, message))
	return p
}

// encipher is ECB over whole blocks.
func encipher(block cipher.Block, data []byte) []byte {
	out := make([]byte, len(data))
	for at := 0; at < len(data); at += block.BlockSize() {
		block.Encrypt(out[at:], data[at:])
	}
	return out
}

// chain is the last block of the CBC encryption of whole blocks from zeros.
func chain(block cipher.Block, message []byte) []byte {
	state := make([]byte, block.BlockSize())
	cipher.NewCBCEncrypter(block, state).CryptBlocks(message, message)
	return message[len(message)-block.BlockSize():]
}
