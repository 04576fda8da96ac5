package keyderive

import (
	"context"
	"errors"

	"github.com/pursekeeper/pursekeeper/crypto/cbcmac"
	"github.com/pursekeeper/pursekeeper/crypto/pad"
	"github.com/pursekeeper/pursekeeper/crypto/retailmac"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// MAC is the four bytes of a MAC or TAC that go on the wire.
type MAC = [cbcmac.Size]byte

// ErrMismatch says that a MAC or TAC was computed, compared in constant time, and found different.
var ErrMismatch = errors.New("mac mismatch")

// Master is a key of an engine together with the issuer levels of its key set, which no request shortens.
type Master struct {
	key    Key
	issuer Path
}

// NewMaster binds a key to the issuer levels of its key set, root first; no level is the key set's own choice.
func NewMaster(key Key, issuer Path) Master { return Master{key: key, issuer: issuer} }

// WithCard diversifies the master to one card and lends the card's key to use (EPURSE.md §2). The duties of Key.Lend
// hold for use.
func (m Master) WithCard(ctx context.Context, card Factor, use func(Card) error) error {
	alg := m.key.Algorithm()
	return m.key.Lend(ctx, m.issuer, func(issuer Unit) error { return use(cardUnder(alg, issuer, card)) })
}

// cardUnder is the card key of a factor under a key at the issuer levels.
func cardUnder(alg suite.Algorithm, issuer Unit, card Factor) Card {
	return Card{
		alg:   alg,
		whole: func(p Purpose) (Unit, error) { return issuer.Derive(card.input(), p) },
		left:  func() (Unit, error) { return issuer.Derive(card.twin(), ToEncrypt) },
	}
}

// EachCard lends many cards of one key at the issuer levels, one after another and in order: what a ManyLender does where one Lend
// can be of many cards. What is derived of each lives until the end of that Lend.
func EachCard(alg suite.Algorithm, issuer Unit, cards []Factor, use func(i int, card Card) error) error {
	for i, card := range cards {
		if err := use(i, cardUnder(alg, issuer, card)); err != nil {
			return err
		}
	}
	return nil
}

// WithCards is WithCard for many cards, one after another and in order: at once where the engine can (ManyLender), else by one
// Lend each. The first error ends it. use is called once for each card, but for those before an ErrUnsupported of its own.
func (m Master) WithCards(ctx context.Context, cards []Factor, use func(i int, card Card) error) error {
	if many, ok := m.key.(ManyLender); ok {
		if err := many.LendCards(ctx, m.issuer, cards, use); !errors.Is(err, ErrUnsupported) {
			return err
		}
	}
	for i, card := range cards {
		if err := m.WithCard(ctx, card, func(c Card) error { return use(i, c) }); err != nil {
			return err
		}
	}
	return nil
}

// Card is a diversified card key on loan. It computes nothing before one of its methods says what it is used as, so that
// an engine creates it with that right alone.
type Card struct {
	alg   suite.Algorithm
	whole func(Purpose) (Unit, error)
	left  func() (Unit, error)
}

// CardOf makes a card from a key that is a card key already, as some vectors give it. left is the key L‖L of its left
// half, used by the 3DES retail MAC alone.
func CardOf(alg suite.Algorithm, whole, left Unit) Card {
	return Card{
		alg:   alg,
		whole: func(Purpose) (Unit, error) { return whole, nil },
		left:  func() (Unit, error) { return left, nil },
	}
}

// Session derives the session key of one transaction from its 8-byte input IN (EPURSE.md §3): single DES, carried as
// K‖K from IN‖IN, in the 3DES suite; 16 bytes from IN‖~IN in the SM4 suite.
func (c Card) Session(in Factor) (Session, error) {
	card, err := c.whole(ToDerive)
	if err != nil {
		return Session{}, err
	}
	session, err := card.Derive(sessionInput(c.alg, in), ToEncrypt)
	return Session{macer{c.alg, session}}, err
}

// sessionInput is what derives a session key from the card key.
func sessionInput(alg suite.Algorithm, in Factor) [16]byte {
	if alg == suite.TDES {
		return in.twin()
	}
	return in.input()
}

// TAC is the card's TAC key: both halves of DTK folded together in the 3DES suite, DTK itself in the SM4 suite
// (EPURSE.md §4).
func (c Card) TAC() (TAC, error) {
	key, err := c.folded()
	return TAC{macer{c.alg, key}}, err
}

// Reload is the key of RELOAD PIN's MAC: DRPK folded like a TAC key (EPURSE.md §6).
func (c Card) Reload() (Reload, error) {
	key, err := c.folded()
	return Reload{macer{c.alg, key}}, err
}

func (c Card) folded() (Unit, error) {
	if c.alg != suite.TDES {
		return c.whole(ToEncrypt)
	}
	card, err := c.whole(ToFold)
	if err != nil {
		return nil, err
	}
	return card.FoldHalves()
}

// Messaging is the card key used directly, for secure messaging and cryptograms (EPURSE.md §6).
func (c Card) Messaging() (Messaging, error) {
	key, err := c.whole(ToEncrypt)
	return Messaging{alg: c.alg, key: key, left: c.left}, err
}

// macer is the CBC-MAC of EPURSE.md §4 under one key on loan.
type macer struct {
	alg suite.Algorithm
	key Unit
}

// MAC pads data with 80 00… and returns the leftmost four bytes of its CBC-MAC from a zero IV.
func (m macer) MAC(data []byte) (MAC, error) {
	last, err := m.key.CBC(nil, pad.Always(data, m.alg.BlockSize()))
	if err != nil {
		return MAC{}, err
	}
	return cbcmac.Leftmost(last), nil
}

// Verify computes the MAC of data and compares it with got in constant time; a difference is ErrMismatch.
func (m macer) Verify(data []byte, got MAC) error {
	want, err := m.MAC(data)
	if err != nil {
		return err
	}
	if !cbcmac.Equal(want, got) {
		return ErrMismatch
	}
	return nil
}

// Session is a session key on loan.
type Session struct{ macer }

// Answer verifies the MAC that the card sent over proof and, only when it is right, returns the MAC over issue. It is the
// heart of every online transaction (EPURSE.md §5.1, §5.3, §5.4): no issued MAC exists before the card's was compared. A wrong one
// asks as much of the engine as a right one, of zeros, so that an answer which is the same for both does not come sooner for one.
func (s Session) Answer(proof []byte, got MAC, issue []byte) (MAC, error) {
	err := s.Verify(proof, got)
	if errors.Is(err, ErrMismatch) {
		_, _ = s.MAC(make([]byte, len(issue))) // whatever becomes of it, the mismatch is what was found
	}
	if err != nil {
		return MAC{}, err
	}
	return s.MAC(issue)
}

// TAC is a card's TAC key on loan.
type TAC struct{ macer }

// Reload is the key of RELOAD PIN's MAC on loan.
type Reload struct{ macer }

// Messaging is a card key on loan for secure messaging and for cryptograms.
type Messaging struct {
	alg  suite.Algorithm
	key  Unit
	left func() (Unit, error)
}

// Algorithm is the suite, which fixes the block size and the MAC.
func (m Messaging) Algorithm() suite.Algorithm { return m.alg }

// MAC returns the secure-messaging MAC of data from iv, one block long: the retail MAC in the 3DES suite, CBC-MAC in the
// SM4 suite, padded 80 00… always (EPURSE.md §4).
func (m Messaging) MAC(iv, data []byte) (MAC, error) {
	if m.alg != suite.TDES {
		last, err := m.key.CBC(iv, pad.Always(data, m.alg.BlockSize()))
		if err != nil {
			return MAC{}, err
		}
		return cbcmac.Leftmost(last), nil
	}
	left, err := m.left()
	if err != nil {
		return MAC{}, err
	}
	last, err := retailmac.Sum(left.CBC, m.key.CBC, iv, data)
	if err != nil {
		return MAC{}, err
	}
	return cbcmac.Leftmost(last), nil
}

// Encrypt returns the ECB encryption of a positive whole number of blocks (EPURSE.md §6).
func (m Messaging) Encrypt(blocks []byte) ([]byte, error) { return m.key.ECB(blocks) }
