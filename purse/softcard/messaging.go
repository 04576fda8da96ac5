package softcard

import (
	"slices"

	"github.com/pursekeeper/pursekeeper/crypto/cbcmac"
	"github.com/pursekeeper/pursekeeper/purse"
)

// unseal verifies the MAC of a secure command under the card's key of a kind and returns the data as sent (EPURSE.md §6).
// No challenge, or one of another length than the profile's, is 6984; a wrong MAC is 6988.
func (c *Card) unseal(a purse.APDU, kind purse.KeyKind, challenge []byte) ([]byte, storedKey, error) {
	key, err := c.state.firstKey(kind)
	if err != nil {
		return nil, key, refusal(purse.SWKeyIndex)
	}
	data, err := c.state.unseal(c.profile, a, key, challenge)
	if err != nil {
		return nil, key, err
	}
	return data, key, c.step()
}

// unseal is the check of one secure command under key.
func (s *keyring) unseal(profile purse.Profile, a purse.APDU, key storedKey, challenge []byte) ([]byte, error) {
	n := len(a.Data) - macLen
	switch {
	case n < 0:
		return nil, refusal(purse.SWLength)
	case len(challenge) != profile.ChallengeLen():
		return nil, refusal(purse.SWNoChallenge)
	}
	iv := make([]byte, s.Algorithm.BlockSize())
	copy(iv, challenge)
	covered := concat([]byte{a.CLA, a.INS, a.P1, a.P2, byte(len(a.Data))}, a.Data[:n])
	want, err := s.messagingMAC(key, iv, covered)
	if err != nil {
		return nil, err
	}
	if !cbcmac.Equal(want, purse.MAC(a.Data[n:])) {
		return nil, refusal(purse.SWSecureMAC)
	}
	return a.Data[:n], nil
}

// bare is unseal of a command that carries nothing but its MAC.
func (c *Card) bare(a purse.APDU, challenge []byte) error {
	if err := length(a, macLen); err != nil {
		return err
	}
	_, _, err := c.unseal(a, purse.KeyMaintenance, challenge)
	return err
}

// unwrap decrypts the data of a secure command and takes it out of its frame.
func (c *Card) unwrap(key storedKey, data []byte) ([]byte, error) {
	return c.state.unwrap(c.profile, key, data)
}

func (s *keyring) unwrap(profile purse.Profile, key storedKey, data []byte) ([]byte, error) {
	block, err := s.open(key)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 || len(data)%block.BlockSize() != 0 {
		return nil, refusal(purse.SWLength)
	}
	plain, err := profile.Unframe(s.Algorithm, decrypt(block, data))
	if err != nil {
		return nil, refusal(purse.SWData)
	}
	return plain, nil
}

// cardBlock is CARD BLOCK: every command after it is 6A81.
func (c *Card) cardBlock(a purse.APDU, challenge []byte) ([]byte, error) {
	if err := first(parameters(a, 0x00, 0x00), c.bare(a, challenge)); err != nil {
		return nil, err
	}
	next := c.state.clone()
	next.CardBlocked = true
	return nil, c.commit(next)
}

// applicationBlock is APPLICATION BLOCK: 6A81 until it is unblocked, or with P2 01 for ever 9303.
func (c *Card) applicationBlock(a purse.APDU, challenge []byte) ([]byte, error) {
	if a.P1 != c.profile.ApplicationBlockP1(c.state.Algorithm) || a.P2 > 0x01 {
		return nil, refusal(purse.SWParameters)
	}
	if err := c.bare(a, challenge); err != nil {
		return nil, err
	}
	next := c.state.clone()
	next.Lock = lockTemporary
	if a.P2 == 0x01 {
		next.Lock = lockPermanent
	}
	c.session.open = nil
	return nil, c.commit(next)
}

// applicationUnblock is APPLICATION UNBLOCK; of an application that is not blocked it is 6985.
func (c *Card) applicationUnblock(a purse.APDU, challenge []byte) ([]byte, error) {
	if err := first(parameters(a, 0x00, 0x00), c.bare(a, challenge)); err != nil {
		return nil, err
	}
	if c.state.Lock != lockTemporary {
		return nil, refusal(purse.SWConditions)
	}
	next := c.state.clone()
	next.Lock = lockNone
	return nil, c.commit(next)
}

// pinUnblock is PIN UNBLOCK: the tries of the PIN again. A PIN in it must be the card's, else 6A80: it unblocks and does
// not replace.
func (c *Card) pinUnblock(a purse.APDU, challenge []byte) ([]byte, error) {
	p1, p2 := c.profile.PINUnblockParameters()
	if err := parameters(a, p1, p2); err != nil {
		return nil, err
	}
	data, key, err := c.unseal(a, purse.KeyPINUnblock, challenge)
	if err != nil {
		return nil, err
	}
	if c.profile.PINUnblockEncrypted() {
		pin, err := c.unwrap(key, data)
		if err != nil {
			return nil, err
		}
		if len(c.state.PIN) == 0 || !slices.Equal(pin, c.state.PIN) {
			return nil, refusal(purse.SWData)
		}
	} else if len(data) != 0 {
		return nil, refusal(purse.SWLength)
	}
	next := c.state.clone()
	next.PINTries = pinTries
	return nil, c.commit(next)
}

// reloadPIN is RELOAD PIN: a new PIN and all its tries. Its MAC, under the folded pin-reload key, has no challenge in it.
func (c *Card) reloadPIN(a purse.APDU, _ []byte) ([]byte, error) {
	if err := parameters(a, 0x00, 0x00); err != nil {
		return nil, err
	}
	n := len(a.Data) - macLen
	if n < 1 || n > 6 {
		return nil, refusal(purse.SWLength)
	}
	key, err := c.state.firstKey(purse.KeyPINReload)
	if err != nil {
		return nil, refusal(purse.SWKeyIndex)
	}
	block, err := c.state.foldedCipher(key)
	if err != nil {
		return nil, err
	}
	header := purse.APDU{CLA: a.CLA, INS: a.INS, P1: a.P1, P2: a.P2}
	if err := verifyMAC(block, purse.MAC(a.Data[n:]), purse.SWSecureMAC, c.profile.ReloadCovered(header, a.Data[:n])); err != nil {
		return nil, err
	}
	if _, err := purse.ParsePackedPIN(a.Data[:n]); err != nil {
		return nil, refusal(purse.SWData)
	}
	next := c.state.clone()
	next.PIN = append(hexBytes(nil), a.Data[:n]...)
	if err := c.step(); err != nil {
		return nil, err
	}
	next.PINTries = pinTries
	return nil, c.commit(next)
}

// updateData is the data of a secure update, out of its frame where the profile encrypts it.
func (c *Card) updateData(a purse.APDU, challenge []byte) ([]byte, error) {
	data, key, err := c.unseal(a, purse.KeyMaintenance, challenge)
	if err != nil || !c.profile.UpdateEncrypted() {
		return data, err
	}
	return c.unwrap(key, data)
}

// updateBinary is UPDATE BINARY: P1 is 80 and the short file identifier, P2 the offset. It does not make a file longer.
func (c *Card) updateBinary(a purse.APDU, challenge []byte) ([]byte, error) {
	content, ok := c.state.Binaries[a.P1&^0x80]
	switch {
	case a.P1&0x80 == 0:
		return nil, refusal(purse.SWParameters)
	case !ok:
		return nil, refusal(purse.SWNotFound)
	}
	data, err := c.updateData(a, challenge)
	if err != nil {
		return nil, err
	}
	if int(a.P2)+len(data) > len(content) || len(data) == 0 {
		return nil, refusal(purse.SWLength)
	}
	changed := slices.Clone(content)
	copy(changed[a.P2:], data)
	next := c.state.clone()
	next.Binaries[a.P1&^0x80] = changed
	return nil, c.commit(next)
}

// updateRecord is UPDATE RECORD: P1 is the number and P2 the file, as in READ RECORD. A record keeps its length.
func (c *Card) updateRecord(a purse.APDU, challenge []byte) ([]byte, error) {
	sfi, record, err := c.findRecord(a, c.state)
	if err != nil {
		return nil, err
	}
	data, err := c.updateData(a, challenge)
	if err != nil {
		return nil, err
	}
	if len(data) != len(c.state.Records[sfi][record]) {
		return nil, refusal(purse.SWLength)
	}
	next := c.state.clone()
	next.Records[sfi][record] = append(hexBytes(nil), data...)
	return nil, c.commit(next)
}

// writeKey is WRITE KEY: the profile's row tells which kind of key comes; a kind of a reader's module is 6A86. It replaces the
// first key of that kind, which keeps its index and version; a kind that the card has not yet gets the profile's key index and
// version 1, for EPURSE.md §6 does not say what of the header is a version.
func (c *Card) writeKey(a purse.APDU, challenge []byte) ([]byte, error) {
	data, key, err := c.unseal(a, purse.KeyControl, challenge)
	if err != nil {
		return nil, err
	}
	kind, value, err := c.state.received(c.profile, a, key, data)
	if err != nil {
		return nil, err
	}
	if kind.OfModule() {
		return nil, refusal(purse.SWParameters)
	}
	next := c.state.clone()
	next.put(storedKey{Kind: kind, Index: c.profile.KeyIndex(), Version: 1, Value: value})
	return nil, c.commit(next)
}

// received takes the kind and the key out of the data of a WRITE KEY whose MAC was right.
func (s *keyring) received(profile purse.Profile, a purse.APDU, control storedKey, data []byte) (kind purse.KeyKind, value []byte, err error) {
	plain, err := s.unwrap(profile, control, data)
	if err != nil {
		return "", nil, err
	}
	if len(plain) != 4+len(KeyValue{}) {
		return "", nil, refusal(purse.SWData)
	}
	kind, ok := profile.KindOf(purse.KeyRow{P1: a.P1, P2: a.P2, Header: [4]byte(plain)})
	if !ok {
		return "", nil, refusal(purse.SWParameters)
	}
	return kind, plain[4:], nil
}

// put replaces the value of the first key of the kind, or adds the key. The keys must not be shared with another ring.
func (s *keyring) put(written storedKey) {
	at := slices.IndexFunc(s.Keys, func(k storedKey) bool { return k.Kind == written.Kind })
	if at < 0 {
		s.Keys = append(s.Keys, written)
		return
	}
	s.Keys[at].Value = written.Value
}
