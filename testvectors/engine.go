package testvectors

import (
	"context"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Engine is what vectors are replayed on: a token, or the bytes of this process.
//
// An implementer owes three duties: a key put in is gone when the call returns and is never persistent; key is the
// caller's, who wipes it then; and what it lends behaves as its keys do in a live transaction of that kind.
type Engine interface {
	// Name is how reports call the engine, such as "token".
	Name() string

	// ShowsKeys reports whether every unit lent encrypts in the open, whatever its purpose, so that a derived key can be
	// compared itself. A token does not, and keys are checked through what they produce.
	ShowsKeys() bool

	// WithMaster puts a 16-byte master key in for the length of use.
	WithMaster(ctx context.Context, kind keyderive.Kind, alg suite.Algorithm, key secret.Bytes, use func(keyderive.Key) error) error

	// WithCard puts a 16-byte card key in for the length of use, as some vectors give it: whole is the key itself with the
	// rights of its kind, left its left half as L‖L, which the 3DES retail MAC alone uses.
	WithCard(ctx context.Context, kind keyderive.Kind, alg suite.Algorithm, key secret.Bytes, use func(whole, left keyderive.Unit) error) error
}

// Memory is the engine of keys held as bytes, keyderive.InMemory.
func Memory() Engine { return memory{} }

type memory struct{}

func (memory) Name() string { return "memory" }

func (memory) ShowsKeys() bool { return true }

func (memory) WithMaster(_ context.Context, _ keyderive.Kind, alg suite.Algorithm, key secret.Bytes, use func(keyderive.Key) error) error {
	k, err := keyderive.InMemory(alg, key)
	if err != nil {
		return err
	}
	return use(k)
}

func (memory) WithCard(ctx context.Context, _ keyderive.Kind, alg suite.Algorithm, key secret.Bytes,
	use func(whole, left keyderive.Unit) error,
) error {
	whole, err := keyderive.InMemory(alg, key)
	if err != nil {
		return err
	}
	twin := secret.New(suite.KeySize)
	defer twin.Wipe()
	half := key.Reveal("to double its left half in memory")[:suite.KeySize/2]
	copy(twin.Reveal("to fill it"), half)
	copy(twin.Reveal("to fill it")[len(half):], half)
	left, err := keyderive.InMemory(alg, twin)
	if err != nil {
		return err
	}
	return whole.Lend(ctx, keyderive.Path{}, func(w keyderive.Unit) error {
		return left.Lend(ctx, keyderive.Path{}, func(l keyderive.Unit) error { return use(w, l) })
	})
}

// sight is what an engine that shows keys let be seen during one loan: what it derived, in order.
type sight struct {
	given []byte // the card key, where the vector gives it as that
	seen  []derivation
}

// derivation is one derived key: how far below the lent key it is, from what, and its value.
type derivation struct {
	depth int
	input [16]byte
	value []byte
}

// last is the value derived last, nil for none.
func (s *sight) last() []byte {
	if len(s.seen) == 0 {
		return nil
	}
	return s.seen[len(s.seen)-1].value
}

// card is the card key: the one given, or the one derived from the factor; nil for neither.
func (s *sight) card(factor keyderive.Factor) []byte {
	if s.given != nil {
		return s.given
	}
	input := keyderive.RootFirst(factor).Levels()[0]
	for _, d := range s.seen {
		if d.depth == 0 && d.input == input {
			return d.value
		}
	}
	return nil
}

// watchedKey lends units whose derivations are seen.
type watchedKey struct {
	keyderive.Key
	sight *sight
}

func (k watchedKey) Lend(ctx context.Context, levels keyderive.Path, use func(keyderive.Unit) error) error {
	return k.Key.Lend(ctx, levels, func(unit keyderive.Unit) error { return use(watched{unit, k.sight, 0}) })
}

// watched derives as its unit does, and notes the value: a derivation is an encryption, which the unit can do in the open.
type watched struct {
	keyderive.Unit
	sight *sight
	depth int
}

func (w watched) Derive(data [16]byte, purpose keyderive.Purpose) (keyderive.Unit, error) {
	value, err := w.ECB(data[:])
	if err != nil {
		return nil, err
	}
	w.sight.seen = append(w.sight.seen, derivation{w.depth, data, value})
	unit, err := w.Unit.Derive(data, purpose)
	if err != nil {
		return nil, err
	}
	return watched{unit, w.sight, w.depth + 1}, nil
}
