package hsm

import (
	"crypto/des"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/pursekeeper/pursekeeper/crypto/deskey"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
)

// checkHalves refuses a two-key DES key that is worth less than it seems.
func checkHalves(key []byte) error {
	switch {
	case deskey.HasEqualParts(key):
		return errors.New("two equal halves make single DES")
	case deskey.HasWeakPart(key):
		return errors.New("a half is a weak or semi-weak DES key")
	}
	return nil
}

// weakCheckValues are the check values of the weak and semi-weak keys: of a half that is in the token no more is known. Another
// key has one of them by chance, 1 in a million, and is given up for another too.
var weakCheckValues = sync.OnceValue(func() map[kcv.Value]bool {
	values := map[kcv.Value]bool{}
	for _, weak := range deskey.WeakParts() {
		block, err := des.NewCipher(binary.BigEndian.AppendUint64(nil, weak))
		if err != nil {
			panic("hsm: a weak key is no DES key: " + err.Error())
		}
		values[kcv.Of(block)] = true
	}
	return values
})
