package rpc

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer"
)

// tokenFlavour is a flavour whose keys are in a SoftHSM token, at one boundary: TOKEN where SoftHSM can, CARD for the kinds that it
// cannot fold.
type tokenFlavour struct {
	flavour
	boundary keyderive.Boundary
}

func (f tokenFlavour) keySet() string {
	return fmt.Sprintf("%s-%s", strings.ToLower(f.boundary.String()), f.flavour.keySet())
}

// of is the boundary of a kind.
func (f tokenFlavour) of(kind keyderive.Kind) keyderive.Boundary {
	if f.boundary == keyderive.BoundaryToken && kind.Folds() {
		return keyderive.BoundaryCard
	}
	return f.boundary
}

// tokenFlavours are the boundaries that SoftHSM has in each suite, with every shipped profile.
func tokenFlavours(t testing.TB) (all []tokenFlavour) {
	t.Helper()
	for _, f := range flavours(t) {
		if f.alg == suite.SM4 {
			all = append(all, tokenFlavour{f, keyderive.BoundaryProcess})
			continue
		}
		for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess} {
			all = append(all, tokenFlavour{f, boundary})
		}
	}
	return all
}

// withTokens is withFlavours with the keys of tokenFlavours in a SoftHSM token.
func withTokens(t testing.TB) func(*setup) {
	t.Helper()
	made := hsmtest.NewToken(t)
	token, err := hsm.Open(context.Background(), hsm.Config{
		Module: made.Module, TokenLabel: made.Label,
		PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(made.PIN)), nil },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, token.Close()) })
	return func(s *setup) {
		for _, f := range tokenFlavours(t) {
			s.keySets = append(s.keySets, f.inToken(t, token))
			for i := range s.clients {
				s.clients[i].KeySets = append(s.clients[i].KeySets, f.keySet())
			}
		}
	}
}

// inToken is the key set of a flavour; key sets that differ in their profile alone share their keys.
func (f tokenFlavour) inToken(t testing.TB, token *hsm.Token) signer.KeySet {
	t.Helper()
	set := f.set(t)
	set.Name = f.keySet()
	for i := range set.Versions {
		v := &set.Versions[i]
		v.Boundary = f.of(v.Kind)
		label := fmt.Sprintf("%v/%v/%v", f.alg, v.Boundary, v.Kind)
		key, err := token.Key(label)
		if err != nil {
			key = importMaster(t, token, hsm.KeySpec{
				Label: label, Kind: v.Kind, Algorithm: f.alg, Boundary: v.Boundary, KCV: v.KCV, IssuerLevels: 1,
			})
		}
		v.Key = key
	}
	return set
}

func importMaster(t testing.TB, token *hsm.Token, spec hsm.KeySpec) *hsm.Key {
	t.Helper()
	value := softcard.TestOnlyMasters()[purse.KeyKind(spec.Kind.String())]
	block, err := spec.Algorithm.New(value[:])
	require.NoError(t, err)
	require.Equal(t, kcv.Of(block), spec.KCV)
	master := secret.Copy(value[:])
	defer master.Wipe()
	require.NoError(t, token.ImportMaster(context.Background(), spec, master))
	key, err := token.Key(spec.Label)
	require.NoError(t, err)
	return key
}
