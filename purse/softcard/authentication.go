package softcard

import (
	"crypto/subtle"
	"io"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
)

// getChallenge is GET CHALLENGE of 4 or 8 bytes; no Le is the profile's length. It is good for the next command alone.
func (c *Card) getChallenge(a purse.APDU, _ []byte) ([]byte, error) {
	challenge, err := drawChallenge(a, c.profile, c.random)
	c.session.challenge = challenge
	return challenge, err
}

func drawChallenge(a purse.APDU, profile purse.Profile, random io.Reader) ([]byte, error) {
	n := a.Expect
	if n == 0 {
		n = profile.ChallengeLen()
	}
	if err := first(parameters(a, 0x00, 0x00), length(a, 0)); err != nil {
		return nil, err
	}
	if n != 4 && n != 8 {
		return nil, refusal(purse.SWLength)
	}
	challenge := make([]byte, n)
	if _, err := io.ReadFull(random, challenge); err != nil {
		return nil, err
	}
	return challenge, nil
}

// verifyPIN is VERIFY. The try is spent before the PIN is compared and given back after, so that cutting the power cannot
// save one.
func (c *Card) verifyPIN(a purse.APDU, _ []byte) ([]byte, error) {
	c.session.verified = false
	if err := parameters(a, 0x00, 0x00); err != nil {
		return nil, err
	}
	switch {
	case len(c.state.PIN) == 0:
		return nil, refusal(purse.SWConditions)
	case c.state.PINTries == 0:
		return nil, refusal(purse.SWBlocked)
	case len(a.Data) < 1 || len(a.Data) > 6:
		return nil, refusal(purse.SWLength)
	}
	spent := c.state.clone()
	spent.PINTries--
	if err := c.commit(spent); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(a.Data, c.state.PIN) != 1 {
		return nil, refusal(purse.SWPINTries(c.state.PINTries))
	}
	right := c.state.clone()
	right.PINTries = pinTries
	if err := c.commit(right); err != nil {
		return nil, err
	}
	c.session.verified = true
	return nil, nil
}

// namedKey is the key that P2 of the AUTHENTICATE commands names: 00 is the first of its kind.
func (c *Card) namedKey(kind purse.KeyKind, id byte) (storedKey, error) {
	key, err := c.state.key(kind, id)
	if id == 0x00 {
		key, err = c.state.firstKey(kind)
	}
	if err != nil {
		return storedKey{}, refusal(purse.SWKeyIndex)
	}
	return key, nil
}

// cryptogram is E(key, challenge 00…), an SM4 block folded where the profile says so (EPURSE.md §6).
func (c *Card) cryptogram(key storedKey, challenge []byte) ([]byte, error) {
	block, err := c.state.open(key)
	if err != nil {
		return nil, err
	}
	padded := make([]byte, block.BlockSize())
	copy(padded, challenge)
	out := encrypt(block, padded)
	if c.state.Algorithm == suite.SM4 && c.profile.CryptogramLen(suite.SM4) == 8 {
		subtle.XORBytes(out, out[:8], out[8:])
		out = out[:8]
	}
	return out, nil
}

// externalAuthenticate is EXTERNAL AUTHENTICATE, under the control key. A try is spent before the comparison, as in VERIFY.
func (c *Card) externalAuthenticate(a purse.APDU, challenge []byte) ([]byte, error) {
	if a.P1 != 0x00 {
		return nil, refusal(purse.SWParameters)
	}
	key, err := c.namedKey(purse.KeyControl, a.P2)
	if err != nil {
		return nil, err
	}
	switch {
	case c.state.ControlTries == 0:
		return nil, refusal(purse.SWBlocked)
	case challenge == nil:
		return nil, refusal(purse.SWNoChallenge)
	case len(a.Data) != c.profile.CryptogramLen(c.state.Algorithm):
		return nil, refusal(purse.SWLength)
	}
	expected, err := c.cryptogram(key, challenge)
	if err != nil {
		return nil, err
	}
	spent := c.state.clone()
	spent.ControlTries--
	if err := c.commit(spent); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(a.Data, expected) != 1 {
		return nil, refusal(purse.SWPINTries(c.state.ControlTries))
	}
	right := c.state.clone()
	right.ControlTries = controlTries
	return nil, c.commit(right)
}

// internalAuthenticate is INTERNAL AUTHENTICATE, under the internal-auth key.
func (c *Card) internalAuthenticate(a purse.APDU, _ []byte) ([]byte, error) {
	if a.P1 != 0x00 {
		return nil, refusal(purse.SWParameters)
	}
	if err := first(length(a, 8), want(a, c.profile.CryptogramLen(c.state.Algorithm))); err != nil {
		return nil, err
	}
	key, err := c.namedKey(purse.KeyInternalAuth, a.P2)
	if err != nil {
		return nil, err
	}
	return c.cryptogram(key, a.Data)
}
