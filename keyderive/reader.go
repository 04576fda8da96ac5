package keyderive

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// The keys of a reader's secure module, by the construction of docs/line-protection.md, which no other source specifies:
//
//	Master ──WithReader──▶ Reader ──Session──▶ ReaderSession ──┬──▶ Authentication    the two proofs
//	                                                           ├──▶ Down              frames to the module
//	                                                           └──▶ Up                frames from the module
//
// The device key derives and does nothing else: what it encrypts is always a hash that this file computes, never a caller's bytes.

// lineVersion is the version of the construction: in proofs, frames and labels.
const lineVersion = 1

// The labels of the working keys, one for each purpose and direction.
const (
	labelAuthenticate = "pursekeeper line 1 authenticate"
	labelEncryptDown  = "pursekeeper line 1 encrypt down"
	labelMACDown      = "pursekeeper line 1 mac down"
	labelEncryptUp    = "pursekeeper line 1 encrypt up"
	labelMACUp        = "pursekeeper line 1 mac up"
)

// Challenge is what one side of an authentication drew at random.
type Challenge [8]byte

// Proof is what one side answers to both challenges.
type Proof [8]byte

// WithReader diversifies the master to one module by its device number, as WithCard does to a card, and lends the module's key to
// use. The duties of Key.Lend hold for use.
func (m Master) WithReader(ctx context.Context, device Factor, use func(Reader) error) error {
	alg := m.key.Algorithm()
	return m.key.Lend(ctx, m.issuer, func(issuer Unit) error {
		return use(Reader{alg: alg, device: device, issuer: issuer})
	})
}

// Reader is a module's key on loan. It is made when a session is asked for, with the right to derive alone.
type Reader struct {
	alg    suite.Algorithm
	device Factor
	issuer Unit
}

// Session binds the module's key to the two challenges of one authentication.
func (r Reader) Session(host, module Challenge) (ReaderSession, error) {
	key, err := r.issuer.Derive(r.device.input(), ToDerive)
	return ReaderSession{alg: r.alg, key: key, device: r.device, host: host, module: module}, err
}

// ReaderSession derives the working keys of one session.
type ReaderSession struct {
	alg          suite.Algorithm
	key          Unit
	device       Factor
	host, module Challenge
}

// working derives the key of one label: the encryption, under the device key, of the leftmost 16 bytes of
//
//	SHA-256( label ‖ device number(8) ‖ host challenge(8) ‖ module challenge(8) )
func (s ReaderSession) working(label string) (Unit, error) {
	text := append([]byte(label), s.device[:]...)
	text = append(text, s.host[:]...)
	sum := sha256.Sum256(append(text, s.module[:]...))
	return s.key.Derive([16]byte(sum[:16]), ToEncrypt)
}

// Authentication derives the key of the proofs.
func (s ReaderSession) Authentication() (Authentication, error) {
	key, err := s.working(labelAuthenticate)
	return Authentication{session: s, key: key}, err
}

// Down derives the keys of the frames to the module.
func (s ReaderSession) Down() (Down, error) {
	l, err := s.line(labelEncryptDown, labelMACDown)
	return Down{l}, err
}

// Up derives the keys of the frames from the module.
func (s ReaderSession) Up() (Up, error) {
	l, err := s.line(labelEncryptUp, labelMACUp)
	return Up{l}, err
}

func (s ReaderSession) line(encrypt, mac string) (l line, err error) {
	l.alg = s.alg
	if l.encrypt, err = s.working(encrypt); err != nil {
		return l, err
	}
	l.mac, err = s.working(mac)
	return l, err
}

// Authentication is the key of the proofs on loan.
type Authentication struct {
	session ReaderSession
	key     Unit
}

// The two roles, so that neither side's proof is ever the other's.
const (
	roleModule = 0x01
	roleHost   = 0x02
)

// Answer verifies the module's proof in constant time and, only when it is right, returns the host's: whoever has not proved the
// key is given nothing to compare with. A wrong proof is ErrMismatch.
func (a Authentication) Answer(module Proof) (Proof, error) {
	want, err := a.proof(roleModule)
	if err != nil {
		return Proof{}, err
	}
	if subtle.ConstantTimeCompare(want[:], module[:]) != 1 {
		return Proof{}, ErrMismatch
	}
	return a.proof(roleHost)
}

// proof is the leftmost eight bytes of the CBC-MAC, from a zero IV and with no padding, of
//
//	role(1) 01 00 00 00 00 00 00 ‖ host challenge(8) ‖ module challenge(8) ‖ device number(8)    32 bytes
func (a Authentication) proof(role byte) (Proof, error) {
	message := append(make([]byte, 0, 32), role, lineVersion, 0, 0, 0, 0, 0, 0)
	message = append(message, a.session.host[:]...)
	message = append(message, a.session.module[:]...)
	message = append(message, a.session.device[:]...)
	last, err := a.key.CBC(nil, message)
	if err != nil {
		return Proof{}, err
	}
	return Proof(last[:8]), nil
}
