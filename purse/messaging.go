package purse

import (
	"github.com/pursekeeper/pursekeeper/crypto/pad"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// SecureMessenger is a card key used directly, on loan for one command: what EPURSE.md §6 asks of it. The key schedule
// implements it.
type SecureMessenger interface {
	// Algorithm is the suite, which fixes block size and MAC.
	Algorithm() suite.Algorithm

	// MAC is the secure-messaging MAC of §4 from iv, one block long; it pads data itself.
	MAC(iv, data []byte) (MAC, error)

	// Encrypter encrypts a positive whole number of blocks in ECB.
	Encrypter
}

// Encrypter is a card key used to encrypt whole blocks in ECB.
type Encrypter interface {
	Encrypt(blocks []byte) ([]byte, error)
}

// MACer is a key of the CBC-MAC of EPURSE.md §4 from a zero IV: for RELOAD PIN the pin-reload key with its halves folded.
type MACer interface {
	MAC(data []byte) (MAC, error)
}

const macLen = len(MAC{})

// seal completes a secure command: a holds the header and the data as sent, and gets Lc and MAC (EPURSE.md §6).
//
//	MAC over CLA INS P1 P2 Lc DATA, where Lc counts the four bytes of the MAC
func seal(a APDU, profile Profile, challenge []byte, m SecureMessenger) (APDU, error) {
	if len(a.Data) > maxSecureData {
		return APDU{}, fieldErrorf(dataField, "%d bytes as sent, expected at most %d", len(a.Data), maxSecureData)
	}
	iv, err := profile.MessagingIV(m.Algorithm(), challenge)
	if err != nil {
		return APDU{}, err
	}
	mac, err := m.MAC(iv, macHeader(a, a.Data))
	if err != nil {
		return APDU{}, err
	}
	a.Data = append(append(make([]byte, 0, len(a.Data)+macLen), a.Data...), mac[:]...)
	return a, nil
}

// macHeader is what a secure-messaging MAC covers.
//
//	CLA(1) INS(1) P1(1) P2(1) Lc(1) DATA(Lc-4)
func macHeader(a APDU, data []byte) []byte {
	b := append(make([]byte, 0, headerLen+1+len(data)), a.CLA, a.INS, a.P1, a.P2, byte(len(data)+macLen))
	return append(b, data...)
}

// SplitSecure splits a secure command as a card receives it into what its MAC covers, its data as sent, and the MAC.
func SplitSecure(a APDU) (covered, data []byte, mac MAC, err error) {
	n := len(a.Data) - macLen
	if n < 0 {
		return nil, nil, mac, fieldErrorf(dataField, "%d bytes, expected at least %d", len(a.Data), macLen)
	}
	data = a.Data[:n:n]
	return macHeader(a, data), data, MAC(a.Data[n:]), nil
}

// MessagingIV is the IV of a secure-messaging MAC: the challenge and then zeros, to one block (EPURSE.md §6). The length of
// the challenge is the profile's.
//
//	3DES: challenge(4) 00000000, or challenge(8)      SM4: the same, then zeros to 16
func (p Profile) MessagingIV(alg suite.Algorithm, challenge []byte) ([]byte, error) {
	if err := wantLen(challengeField, challenge, p.smChallenge); err != nil {
		return nil, err
	}
	iv := make([]byte, alg.BlockSize())
	copy(iv, challenge)
	return iv, nil
}

// frame is the plain text of encrypted data: LEN(1) DATA(LEN) padded as the profile says (EPURSE.md §6). The parts are at
// most 255 bytes together, which every command sees to; the caller wipes what is returned.
func (p Profile) frame(alg suite.Algorithm, parts ...[]byte) []byte {
	framed := make([]byte, 1, 1+maxData)
	for _, part := range parts {
		framed = append(framed, part...)
	}
	defer clear(framed)
	framed[0] = byte(len(framed) - 1)
	if p.padAlways {
		return pad.Always(framed, alg.BlockSize())
	}
	return pad.Partial(framed, alg.BlockSize())
}

// Unframe takes LEN ‖ data out of decrypted blocks, as a card does. Wrong padding is refused.
func (p Profile) Unframe(alg suite.Algorithm, blocks []byte) ([]byte, error) {
	size := alg.BlockSize()
	if len(blocks) == 0 || len(blocks)%size != 0 {
		return nil, fieldErrorf(dataField, "not a whole number of blocks")
	}
	end := 1 + int(blocks[0])
	if end > len(blocks) {
		return nil, fieldErrorf(dataField, "its length byte is past its end")
	}
	again := p.frame(alg, blocks[1:end])
	defer clear(again)
	if string(again) != string(blocks) {
		return nil, fieldErrorf(dataField, "wrong padding")
	}
	return append([]byte(nil), blocks[1:end]...), nil
}

// encrypt is LEN ‖ data, padded and encrypted under m.
func (p Profile) encrypt(m SecureMessenger, parts ...[]byte) ([]byte, error) {
	plain := p.frame(m.Algorithm(), parts...)
	defer clear(plain)
	return m.Encrypt(plain)
}

const (
	challengeField = "challenge"
	dataField      = "data"
	maxSecureData  = maxData - macLen
)

// checkData refuses data of no byte or of more than most.
func checkData(data []byte, most int) error {
	if len(data) < 1 || len(data) > most {
		return fieldErrorf(dataField, "%d bytes, expected 1 to %d", len(data), most)
	}
	return nil
}
