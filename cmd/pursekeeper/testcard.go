package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// The files of a test card: one to update, and one that a compound purchase changes.
const (
	binaryFile  = 0x16
	binaryLen   = 39
	recordFile  = 0x17
	recordLen   = 16
	recordCount = 2
)

// testCard is a card of a key set whose masters are known: a test card.
type testCard struct {
	set     testKeySet
	profile purse.Profile
	serial  string
	ed, ep  softcard.Account
	pin     purse.PIN // the zero PIN is none
	random  io.Reader
}

// personalise makes the card, with a key of each kind that the key set has for cards, in its newest version.
func (t testCard) personalise() (*softcard.Card, error) {
	factor, err := purse.ParseCardSerial(t.serial)
	if err != nil {
		return nil, err
	}
	path := [][8]byte{}
	for _, text := range t.set.IssuerFactors {
		issuer, err := keyderive.ParseFactor(text)
		if err != nil {
			return nil, fmt.Errorf("issuerFactors: %w", err)
		}
		path = append(path, issuer)
	}
	path = append(path, factor)
	keys := map[purse.KeyKind][]softcard.Key{}
	for _, master := range t.set.Keys {
		kind := purse.KeyKind(master.Kind.String())
		if kind.OfModule() || len(keys[kind]) > 0 && keys[kind][0].Version > purse.KVER(master.Version) {
			continue
		}
		key, err := master.cardKey(t.set, path)
		if err != nil {
			return nil, err
		}
		keys[kind] = []softcard.Key{key}
	}
	records := make([][]byte, recordCount)
	for i := range records {
		records[i] = make([]byte, recordLen)
	}
	return softcard.Personalise(softcard.Options{
		Algorithm: t.set.Algorithm, Profile: t.profile, Serial: t.serial, Keys: keys, ED: t.ed, EP: t.ep, PIN: t.pin,
		Binaries: map[byte][]byte{binaryFile: make([]byte, binaryLen)}, Records: map[byte][][]byte{recordFile: records},
		Random: t.random,
	})
}

// cardKey diversifies the master for one card, in ordinary memory: it is a test key.
func (k testKey) cardKey(set testKeySet, path [][8]byte) (softcard.Key, error) {
	master, err := k.MasterKey.bytes()
	if err != nil {
		return softcard.Key{}, err
	}
	defer master.Wipe()
	value, err := softcard.Diversify(set.Algorithm, softcard.KeyValue(master.Reveal("to personalise a test card")), path...)
	return softcard.Key{Version: purse.KVER(k.Version), Value: value}, err
}

// keySetNamed is one of sets.
func keySetNamed(sets []testKeySet, name string) (testKeySet, error) {
	var known []string
	for _, set := range sets {
		if set.Name == name {
			return set, nil
		}
		known = append(known, set.Name)
	}
	return testKeySet{}, fmt.Errorf("key set %q: its test keys are not known here, those of %s are; name its file with --test-keys",
		name, strings.Join(known, ", "))
}
