package hsm

import (
	"context"
	"errors"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Strictest is the strictest boundary that the token can give a key of the kind, by its profile.
func (t *Token) Strictest(kind keyderive.Kind, alg suite.Algorithm) keyderive.Boundary {
	return t.config.Profile.Strictest(kind, alg)
}

// Replay is the token as an engine of test vectors: each key is an object of the session for the length of one vector.
type Replay struct {
	token    *Token
	boundary keyderive.Boundary
}

// Replay replays at the given boundary, or where the token cannot, at the strictest that it can.
func (t *Token) Replay(boundary keyderive.Boundary) Replay { return Replay{t, boundary} }

// Name is "token" and the boundary, for reports.
func (r Replay) Name() string { return "token at " + strings.ToLower(r.boundary.String()) }

// ShowsKeys is false: no unit of a token encrypts but for its purpose.
func (Replay) ShowsKeys() bool { return false }

func (r Replay) spec(kind keyderive.Kind, alg suite.Algorithm) KeySpec {
	return KeySpec{Kind: kind, Algorithm: alg, Boundary: max(r.boundary, r.token.Strictest(kind, alg))}
}

// WithMaster puts a master in for the length of use.
func (r Replay) WithMaster(ctx context.Context, kind keyderive.Kind, alg suite.Algorithm, key secret.Bytes, use func(keyderive.Key) error) (err error) {
	scratch, err := r.token.Scratch(ctx, r.spec(kind, alg), key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	return use(scratch)
}

// WithCard puts a card key in for the length of use: whole is the key with the rights of its kind, left its left half as L‖L.
func (r Replay) WithCard(ctx context.Context, kind keyderive.Kind, alg suite.Algorithm, key secret.Bytes, use func(whole, left keyderive.Unit) error) (err error) {
	card, err := r.token.ScratchCard(ctx, r.spec(kind, alg), key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, card.Close()) }()
	return card.Lend(ctx, use)
}
