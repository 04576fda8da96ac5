package main

import (
	"context"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/signer"
)

// bound binds key sets to keys. A destroyed key is bound to nothing: it is there to be listed.
func bound(sets []config.KeySet, found *findings, bind func(config.KeySet, config.Key) (keyderive.Key, error)) ([]signer.KeySet, error) {
	all := make([]signer.KeySet, 0, len(sets))
	for _, set := range sets {
		s := signer.KeySet{
			Name: set.Name, Algorithm: set.Algorithm, Profile: set.Profile, Issuer: set.Issuer, Location: set.Location,
			MAC1Failures: set.MAC1Failures, TACVersion: set.TACVersion,
		}
		for _, key := range set.Keys {
			version := signer.Version{
				Kind: key.Kind, Number: key.Version, State: key.State, Boundary: key.Boundary, KCV: key.KCV,
				ActivateAt: key.ActivateAt, Due: key.Due, Created: key.Created, Origin: key.Origin,
			}
			if key.State != custody.Destroyed {
				handle, err := bind(set, key)
				if err != nil {
					return nil, fmt.Errorf("key set %s: %w", set.Name, err)
				}
				version.Key, version.Exposure = handle, found.of(key)
			}
			s.Versions = append(s.Versions, version)
		}
		all = append(all, s)
	}
	return all, nil
}

// configured binds the key sets of the configuration; later, when the token cannot tell yet which keys it has.
func (n *node) configured(later bool) ([]signer.KeySet, error) {
	return bound(n.config.KeySets, n.found, func(set config.KeySet, key config.Key) (keyderive.Key, error) {
		if later {
			return lateKey{n.token, key.Label, set.Algorithm, nil}, nil
		}
		return n.token.Key(key.Label)
	})
}

// specs are the keys of key sets that the token should have.
func specs(sets []config.KeySet) (all []hsm.KeySpec) {
	for _, set := range sets {
		for _, key := range set.Keys {
			if key.State != custody.Destroyed {
				all = append(all, keySpec(set, key))
			}
		}
	}
	return all
}

func keySpec(set config.KeySet, key config.Key) hsm.KeySpec {
	return hsm.KeySpec{
		Label: key.Label, Kind: key.Kind, Algorithm: set.Algorithm, Boundary: key.Boundary, KCV: key.KCV, ID: key.ID,
		IssuerLevels: set.IssuerLevels,
	}
}

// lateKey is a key that the token may come to have later, and is asked for at each Lend: where it has refused its PIN so far, and where
// officers change keys while the service runs. One that is missing then, or not what is known of it, fails closed.
type lateKey struct {
	token     *hsm.Token
	label     string
	algorithm suite.Algorithm
	why       func(label string) error // what is known to be wrong with the key; nil is nobody who knows
}

func (k lateKey) Algorithm() suite.Algorithm { return k.algorithm }

func (k lateKey) key() (*hsm.Key, error) {
	if k.why != nil {
		if err := k.why(k.label); err != nil {
			return nil, err
		}
	}
	return k.token.Key(k.label)
}

func (k lateKey) Lend(ctx context.Context, path keyderive.Path, use func(keyderive.Unit) error) error {
	key, err := k.key()
	if err != nil {
		return err
	}
	return key.Lend(ctx, path, use)
}

// LendCards implements keyderive.ManyLender.
func (k lateKey) LendCards(ctx context.Context, path keyderive.Path, cards []keyderive.Factor, use func(int, keyderive.Card) error) error {
	key, err := k.key()
	if err != nil {
		return err
	}
	return key.LendCards(ctx, path, cards, use)
}

// Exchange implements keyderive.Exchanger.
func (k lateKey) Exchange(ctx context.Context, path keyderive.Path, x keyderive.Exchange) (keyderive.MAC, error) {
	key, err := k.key()
	if err != nil {
		return keyderive.MAC{}, err
	}
	return key.Exchange(ctx, path, x)
}
