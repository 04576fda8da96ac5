package keyderive

import (
	"context"
	"errors"
	"sync"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// ErrStays says that a key of this engine derives card keys which never leave it: its card keys cannot be written to a card.
var ErrStays = errors.New("its card keys do not leave the token")

// DangerousIssuer is a unit that may hand out the bytes of a key derived from it: the way of a card's key onto its card, and the
// one way by which a derived key leaves an engine. A key at the TOKEN boundary lends no such unit.
//
// An implementer owes three duties beside Key's: only a card's key leaves, never a master, an issuer-level or a session key; the
// bytes are the loan's, which wipes them at its end; and use runs on the goroutine of Lend's caller, so that the loan does not end
// beneath a reader.
type DangerousIssuer interface {
	Unit

	// DangerousIssue is Derive, but the result is bytes in locked memory and no unit: nothing computes under it.
	DangerousIssue(data [16]byte) (secret.Bytes, error)
}

// Issued is a card's key on its way onto the card: 16 bytes of locked memory, from DangerousIssue until Wipe. It computes nothing
// and shows its bytes to Under alone.
type Issued struct {
	mu   sync.Mutex // guards what follows
	key  secret.Bytes
	busy bool // a function of Under reads key
	over bool // Wipe was called: nobody begins to read
}

// DangerousIssue diversifies the master to one card, or one reader's module, and returns its key, to be written there. The
// caller wipes it. The master is on loan no longer when DangerousIssue returns. ErrStays: the key's engine has no such way.
func (m Master) DangerousIssue(ctx context.Context, card Factor) (*Issued, error) {
	issued := new(Issued)
	err := m.key.Lend(ctx, m.issuer, func(unit Unit) error {
		issuer, ok := unit.(DangerousIssuer)
		if !ok {
			return ErrStays
		}
		key, err := issuer.DangerousIssue(card.input())
		if err != nil {
			return err
		}
		issued.key = secret.Copy(key.Reveal("to keep a card's key until it is written"))
		return nil
	})
	if err != nil {
		issued.Wipe()
		return nil, err
	}
	return issued, nil
}

// KeyBytes shows the bytes of an issued key to the one function that lays out a WRITE KEY.
type KeyBytes interface {
	// Reveal returns the bytes, valid until that function returns; why names the use.
	Reveal(why string) []byte
}

// Under lends a card's key that is used directly, and shows the issued key to build together with it: the bytes are to be had
// only where the key is that they are encrypted under. The duties of Key.Lend hold for build; when Under returns early because
// ctx ended, a build that still runs keeps the bytes, and they are wiped when it returns.
func (i *Issued) Under(ctx context.Context, control Master, card Factor, build func(key KeyBytes, control Messaging) error) error {
	return control.WithCard(ctx, card, func(c Card) error {
		m, err := c.Messaging()
		if err != nil {
			return err
		}
		if err := i.begin(); err != nil {
			return err
		}
		defer i.end()
		return build(i.key, m)
	})
}

var errWiped = errors.New("the issued key was wiped")

func (i *Issued) begin() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over || i.busy || i.key.Len() != suite.KeySize {
		return errWiped
	}
	i.busy = true
	return nil
}

func (i *Issued) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.busy = false
	if i.over {
		i.key.Wipe()
	}
}

// Wipe ends the issued key: now, or as soon as a function of Under that still reads it returns.
func (i *Issued) Wipe() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.over = true
	if !i.busy {
		i.key.Wipe()
	}
}
