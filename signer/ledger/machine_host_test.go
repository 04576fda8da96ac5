package ledger_test

import (
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

const issuerFactor = "1000100010001000"

// hostKeys are one card's keys and what an issuer computes with them, written from EPURSE.md §2 to §5 on the standard
// library, apart from the code under test: what the signer must answer, and what another than the signer can authorise.
type hostKeys struct{ load, tac, unload, purchase []byte }

func newHostKeys(factor [8]byte) *hostKeys {
	masters := softcard.TestOnlyMasters()
	of := func(kind purse.KeyKind) []byte {
		master := masters[kind]
		return diversify(diversify(master[:], mustHex(issuerFactor)), factor[:])
	}
	return &hostKeys{of(purse.KeyLoad), of(purse.KeyTAC), of(purse.KeyUnload), of(purse.KeyPurchase)}
}

// mac2 is MAC(SESLK, AMT TTI TERM DATE TIME).
func (k *hostKeys) mac2(o offer, d purse.Date, t purse.Time) purse.MAC {
	return sessionMAC(k.load, online(o.init), slices.Concat(o.amount.Bytes(), []byte{byte(o.purse)}, o.terminal[:], d[:], t[:]))
}

// unloadMAC2 is MAC(SESULK, AMT 03 TERM DATE TIME).
func (k *hostKeys) unloadMAC2(o offer, d purse.Date, t purse.Time) purse.MAC {
	return sessionMAC(k.unload, online(o.init), slices.Concat(o.amount.Bytes(), []byte{3}, o.terminal[:], d[:], t[:]))
}

// tacOf is MAC(TAC key, NEWBAL ONSN AMT TTI TERM DATE TIME).
func (k *hostKeys) tacOf(o offer, d purse.Date, t purse.Time) purse.MAC {
	balance, counter := o.init.Balance+o.amount, binary.BigEndian.AppendUint16(nil, uint16(o.init.Counter))
	folded := make([]byte, 8)
	for i := range folded {
		folded[i] = k.tac[i] ^ k.tac[i+8]
	}
	return cbcMAC(folded, slices.Concat(balance.Bytes(), counter, o.amount.Bytes(), []byte{byte(o.purse)}, o.terminal[:], d[:], t[:]))
}

// online is the session input of load and unload: R ONSN 80 00.
func online(init purse.LoadInit) [8]byte {
	return [8]byte(append(binary.BigEndian.AppendUint16(slices.Clone(init.Random[:]), uint16(init.Counter)), 0x80, 0x00))
}

func diversify(key, factor []byte) []byte {
	block, err := des.NewTripleDESCipher(slices.Concat(key, key[:8]))
	must(err)
	out := make([]byte, 16)
	block.Encrypt(out[:8], factor)
	inverted := make([]byte, 8)
	for i, b := range factor {
		inverted[i] = ^b
	}
	block.Encrypt(out[8:], inverted)
	return out
}

func sessionMAC(key []byte, in [8]byte, data []byte) purse.MAC {
	block, err := des.NewTripleDESCipher(slices.Concat(key, key[:8]))
	must(err)
	session := make([]byte, 8)
	block.Encrypt(session, in[:])
	return cbcMAC(session, data)
}

func cbcMAC(key, data []byte) purse.MAC {
	block, err := des.NewCipher(key)
	must(err)
	padded := append(slices.Clone(data), 0x80)
	padded = append(padded, make([]byte, (8-len(padded)%8)%8)...)
	last := make([]byte, len(padded))
	cipher.NewCBCEncrypter(block, make([]byte, 8)).CryptBlocks(last, padded)
	return purse.MAC(last[len(last)-8:])
}

func mustHex(text string) []byte {
	b, err := hex.DecodeString(text)
	must(err)
	return b
}

// must stops a test at something that is no finding.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
