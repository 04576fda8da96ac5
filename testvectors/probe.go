package testvectors

import (
	"context"
	"crypto/subtle"

	"github.com/pursekeeper/pursekeeper/crypto/cbcmac"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// A probe tells whether a key that may not be shown has an expected value, by what it produces: the same work is done
// under it and, in memory, under the expected value. Several MACs of four bytes each, so that a wrong key passes once in
// 2⁹⁶. DES ignores parity bits, and so do probes.

// probes are the fixed inputs: session inputs for keys that only derive, messages for the others.
func probes() []keyderive.Factor {
	return []keyderive.Factor{
		{0x50, 0x52, 0x4F, 0x42, 0x45, 0x20, 0x30, 0x31},
		{0x50, 0x52, 0x4F, 0x42, 0x45, 0x20, 0x30, 0x32},
		{0x50, 0x52, 0x4F, 0x42, 0x45, 0x20, 0x30, 0x33},
	}
}

// probeSession reports whether the session key computes as the expected value does.
func probeSession(session keyderive.Session, alg suite.Algorithm, expected []byte) (bool, error) {
	if alg == suite.TDES {
		expected = append(append(make([]byte, 0, suite.KeySize), expected...), expected...) // K‖K, EPURSE.md §3
	}
	block, err := alg.New(expected)
	if err != nil {
		return false, err
	}
	same := true
	for _, message := range probes() {
		got, err := session.MAC(message[:])
		if err != nil {
			return false, err
		}
		want, err := cbcmac.Sum(block, nil, message[:])
		if err != nil {
			return false, err
		}
		same = same && cbcmac.Equal(got, cbcmac.Leftmost(want))
	}
	return same, nil
}

// probeCard reports whether the card key of the kind computes as the expected value does: through session keys where the
// kind only derives, else by encryption and secure messaging, under all of the key and under its left half.
func probeCard(ctx context.Context, kind keyderive.Kind, card keyderive.Card, alg suite.Algorithm, expected []byte) (bool, error) {
	work := messagingWork
	if kind.Derives() {
		work = sessionWork
	}
	got, err := work(card)
	if err != nil {
		return false, err
	}
	key := secret.Copy(expected)
	defer key.Wipe()
	var want []byte
	err = Memory().WithCard(ctx, kind, alg, key, func(whole, left keyderive.Unit) error {
		want, err = work(keyderive.CardOf(alg, whole, left))
		return err
	})
	return subtle.ConstantTimeCompare(got, want) == 1, err
}

func sessionWork(card keyderive.Card) (product []byte, err error) {
	for _, probe := range probes() {
		session, err := card.Session(probe)
		if err != nil {
			return nil, err
		}
		mac, err := session.MAC(probe[:])
		if err != nil {
			return nil, err
		}
		product = append(product, mac[:]...)
	}
	return product, nil
}

func messagingWork(card keyderive.Card) (product []byte, err error) {
	messaging, err := card.Messaging()
	if err != nil {
		return nil, err
	}
	block := messaging.Algorithm().BlockSize()
	for _, probe := range probes() {
		blocks := make([]byte, 2*block)
		copy(blocks, probe[:])
		encrypted, err := messaging.Encrypt(blocks)
		if err != nil {
			return nil, err
		}
		mac, err := messaging.MAC(blocks[:block], blocks)
		if err != nil {
			return nil, err
		}
		product = append(append(product, encrypted...), mac[:]...)
	}
	return product, nil
}

// sameKey compares key values in constant time, DES keys without their parity bits.
func sameKey(alg suite.Algorithm, a, b []byte) bool {
	if alg == suite.TDES {
		a, b = withoutParity(a), withoutParity(b)
	}
	return subtle.ConstantTimeCompare(a, b) == 1
}

func withoutParity(key []byte) []byte {
	stripped := make([]byte, len(key))
	for i, b := range key {
		stripped[i] = b &^ 1
	}
	return stripped
}
