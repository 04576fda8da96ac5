package hsm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// engine is one master of the demonstration card on one of the engines that a keyderive.Key has.
type engine struct {
	name string
	alg  suite.Algorithm
	make func(t *testing.T, token *Token, kind keyderive.Kind, key string) keyderive.Key
}

func inToken(alg suite.Algorithm, boundary keyderive.Boundary) engine {
	return engine{boundary.String() + " " + alg.String(), alg, func(t *testing.T, token *Token, kind keyderive.Kind, key string) keyderive.Key {
		return importKey(t, token, specOf(t, kind.String(), kind, alg, boundary, 1, key), key)
	}}
}

func inMemory(alg suite.Algorithm) engine {
	return engine{"memory " + alg.String(), alg, func(t *testing.T, _ *Token, _ keyderive.Kind, key string) keyderive.Key {
		return memoryKey(t, alg, key)
	}}
}

func memoryKey(t testing.TB, alg suite.Algorithm, key string) keyderive.Key {
	t.Helper()
	value := secretOf(t, key)
	t.Cleanup(value.Wipe)
	k, err := keyderive.InMemory(alg, value)
	require.NoError(t, err)
	return k
}

var allBoundaries = []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard, keyderive.BoundaryProcess}

// engines are all that a token of the profile can be, and the two of this process.
func engines(p Profile) []engine {
	list := []engine{inMemory(suite.TDES), inMemory(suite.SM4)}
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		for _, boundary := range allBoundaries {
			if boundary >= p.Strictest(keyderive.KindLoad, alg) {
				list = append(list, inToken(alg, boundary))
			}
		}
	}
	return list
}

var loadMACs = map[suite.Algorithm]struct{ mac1, mac2 string }{
	suite.TDES: {"7E1722D0", "60B7B5B7"},
	suite.SM4:  {"C9A6F09C", "1FF2DC09"},
}

// bothTokens make a token of SoftHSM alone, and one that has SM4 and key-XOR-key derivation beside.
var bothTokens = map[string]func(testing.TB) Config{
	"SoftHSM":   func(t testing.TB) Config { return configOf(hsmtest.NewToken(t)) },
	"SM4 token": func(t testing.TB) Config { config, _ := sm4Config(t); return config },
}

// The duties of keyderive.Key, on every engine of both tokens.
func TestKeyContract(t *testing.T) {
	for name, config := range bothTokens {
		for _, e := range engines(config(t).Profile) {
			t.Run(name+" "+e.name, func(t *testing.T) { contract(t, e, openToken(t, config(t))) })
		}
	}
}

func contract(t *testing.T, e engine, token *Token) {
	load := e.make(t, token, keyderive.KindLoad, loadMaster)
	assert.Equal(t, e.alg, load.Algorithm())
	t.Run("computes", func(t *testing.T) { contractComputes(t, e.alg, load) })
	t.Run("concurrently", func(t *testing.T) { contractConcurrent(t, e.alg, load) })
	t.Run("context", func(t *testing.T) { contractContext(t, load) })
	t.Run("errors of use", func(t *testing.T) { contractUse(t, load) })
	maintenance := e.make(t, token, keyderive.KindMaintenance, loadMaster)
	t.Run("input", func(t *testing.T) { contractInput(t, e.alg, maintenance) })
}

func contractComputes(t *testing.T, alg suite.Algorithm, key keyderive.Key) {
	want := loadMACs[alg]
	for _, way := range []keyderive.Key{key, stepwise{key}} {
		mac2, err := loadMAC2(context.Background(), t, way, demoPath, want.mac1)
		require.NoError(t, err)
		assert.Equal(t, bytesOf(t, want.mac2), mac2[:])
		_, err = loadMAC2(context.Background(), t, way, demoPath, "00000000")
		require.ErrorIs(t, err, keyderive.ErrMismatch)
	}
}

func contractConcurrent(t *testing.T, alg suite.Algorithm, key keyderive.Key) {
	want := loadMACs[alg]
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 5 {
				mac2, err := loadMAC2(context.Background(), t, key, demoPath, want.mac1)
				if assert.NoError(t, err) {
					assert.Equal(t, bytesOf(t, want.mac2), mac2[:])
				}
			}
		})
	}
	group.Wait()
}

func contractContext(t *testing.T, key keyderive.Key) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	called := false
	err := key.Lend(ctx, demoPath, func(keyderive.Unit) error { called = true; return nil })
	require.ErrorIs(t, err, context.Canceled)
	assert.False(t, called)
	_, err = loadMAC2(ctx, t, key, demoPath, "7E1722D0")
	require.ErrorIs(t, err, context.Canceled)
}

func contractUse(t *testing.T, key keyderive.Key) {
	mine := errors.New("mine")
	calls := 0
	err := key.Lend(context.Background(), demoPath, func(keyderive.Unit) error { calls++; return mine })
	require.ErrorIs(t, err, mine)
	assert.Equal(t, 1, calls)
	assert.PanicsWithValue(t, "mine", func() {
		_ = key.Lend(context.Background(), demoPath, func(keyderive.Unit) error { panic("mine") })
	})
	require.NoError(t, key.Lend(context.Background(), demoPath, func(keyderive.Unit) error { return nil }))
}

func contractInput(t *testing.T, alg suite.Algorithm, key keyderive.Key) {
	size := alg.BlockSize()
	err := keyderive.NewMaster(key, demoPath).WithCard(context.Background(), benchCard, func(card keyderive.Card) error {
		m, err := card.Messaging()
		if err != nil {
			return err
		}
		for _, n := range []int{0, 1, size - 1, size + 1} {
			_, err := m.Encrypt(make([]byte, n))
			assert.Error(t, err, n)
		}
		got, err := m.Encrypt(make([]byte, 3*size))
		if err == nil {
			assert.Len(t, got, 3*size)
			assert.Equal(t, got[:size], got[size:2*size])
		}
		return err
	})
	require.NoError(t, err)
}

// What a key's kind never does is refused by every engine of a token, in Go.
func TestKindsHaveNoOtherRight(t *testing.T) {
	for name, config := range bothTokens {
		config := config(t)
		for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			for _, boundary := range allBoundaries {
				if boundary < config.Profile.Strictest(keyderive.KindLoad, alg) {
					continue
				}
				t.Run(fmt.Sprintf("%s %v %v", name, alg, boundary), func(t *testing.T) {
					spec := specOf(t, "load", keyderive.KindLoad, alg, boundary, 0, loadMaster)
					contractRights(t, importKey(t, openToken(t, bothTokens[name](t)), spec, loadMaster))
				})
			}
		}
	}
}

func contractRights(t *testing.T, key keyderive.Key) {
	var data [16]byte
	var escaped keyderive.Unit
	err := key.Lend(context.Background(), keyderive.Path{}, func(unit keyderive.Unit) error {
		escaped = unit
		refused := func(_ any, err error) { t.Helper(); assert.ErrorIs(t, err, errRight) }
		refused(unit.ECB(data[:]))
		refused(unit.CBC(nil, data[:]))
		refused(unit.Derive(data, keyderive.ToEncrypt))
		refused(unit.Derive(data, keyderive.ToFold))
		refused(unit.Derive(data, 0))
		card, err := unit.Derive(data, keyderive.ToDerive)
		require.NoError(t, err)
		refused(card.ECB(data[:]))
		refused(card.CBC(nil, data[:]))
		refused(card.Derive(data, keyderive.ToDerive))
		_, err = card.FoldHalves()
		assert.Error(t, err)
		session, err := card.Derive(data, keyderive.ToEncrypt)
		require.NoError(t, err)
		refused(session.Derive(data, keyderive.ToEncrypt))
		_, err = session.ECB(data[:])
		return err
	})
	require.NoError(t, err)
	_, err = escaped.Derive(data, keyderive.ToDerive)
	assert.ErrorIs(t, err, errOver)
}

// The token itself refuses too: the card key object has no right but its purpose.
func TestTheTokenRefusesWhatTheObjectMayNot(t *testing.T) {
	for name, config := range bothTokens {
		config := config(t)
		for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			if config.Profile.Strictest(keyderive.KindLoad, alg) == keyderive.BoundaryToken {
				t.Run(name+" "+alg.String(), func(t *testing.T) { tokenRefuses(t, alg, openToken(t, bothTokens[name](t))) })
			}
		}
	}
}

func tokenRefuses(t *testing.T, alg suite.Algorithm, token *Token) {
	key := importKey(t, token, specOf(t, "load", keyderive.KindLoad, alg, keyderive.BoundaryToken, 0, loadMaster), loadMaster)
	err := key.Lend(context.Background(), keyderive.Path{}, func(unit keyderive.Unit) error {
		card, err := unit.Derive([16]byte{}, keyderive.ToDerive)
		require.NoError(t, err)
		forced := card.(*tokenUnit)
		forced.purpose = keyderive.ToEncrypt
		_, err = forced.ECB(make([]byte, 16))
		assert.ErrorContains(t, err, "CKR_KEY_FUNCTION_NOT_PERMITTED")
		out := make([]byte, 16)
		assert.ErrorContains(t, forced.loan.session.value(forced.key, out), "CKR_ATTRIBUTE_SENSITIVE")
		return nil
	})
	require.ErrorContains(t, err, "CKR_KEY_FUNCTION_NOT_PERMITTED", "an error of the token that use drops is still the loan's")
}

func TestFoldIsUnsupportedInsideATokenWithoutIt(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	assert.Equal(t, keyderive.BoundaryCard, token.Strictest(keyderive.KindTAC, suite.TDES))
	key := importKey(t, token, specOf(t, "tac", keyderive.KindTAC, suite.TDES, keyderive.BoundaryToken, 1, tacMaster), tacMaster)
	err := keyderive.NewMaster(key, demoPath).WithCard(context.Background(), benchCard, func(card keyderive.Card) error {
		_, err := card.TAC()
		return err
	})
	require.ErrorIs(t, err, keyderive.ErrUnsupported)
}

// A failed require in use ends a worker's goroutine: the caller hears of it and the session serves on.
func TestUseThatEndsItsGoroutine(t *testing.T) {
	config := configOf(hsmtest.NewToken(t))
	config.InFlight = 1
	token := openToken(t, config)
	key := importKey(t, token, specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
	err := key.Lend(context.Background(), demoPath, func(keyderive.Unit) error {
		runtime.Goexit()
		return nil
	})
	require.ErrorIs(t, err, errUseExited)
	contractComputes(t, suite.TDES, key)
}

// The bulk path makes the same cards, in order, for both algorithms, with issuer levels and without, and where the token does not derive.
func TestLendCards(t *testing.T) {
	for name, change := range map[string]func(*hsmtest.Mechanisms){"derives": nil, "does not derive SM4": func(m *hsmtest.Mechanisms) { m.SM4Derive = 0 }} {
		config, _ := vendorConfig(t, change)
		for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			for levels, path := range []keyderive.Path{{}, demoPath} {
				t.Run(fmt.Sprintf("%s %v %d levels", name, alg, levels), func(t *testing.T) {
					token, err := Open(context.Background(), config)
					require.NoError(t, err)
					defer func() { require.NoError(t, token.Close()) }()
					spec := specOf(t, fmt.Sprint(alg, levels), keyderive.KindTAC, alg, keyderive.BoundaryCard, levels, tacMaster)
					contractMany(t, importKey(t, token, spec, tacMaster), path)
				})
			}
		}
	}
}

func contractMany(t *testing.T, key *Key, path keyderive.Path) {
	cards := make([]keyderive.Factor, 3*maxBatch+7)
	for i := range cards {
		cards[i] = keyderive.Factor{byte(i >> 8), byte(i)}
	}
	macs := make([]keyderive.MAC, len(cards))
	next := 0
	require.NoError(t, key.LendCards(context.Background(), path, cards, func(i int, card keyderive.Card) (err error) {
		assert.Equal(t, next, i)
		next++
		macs[i], err = recordTAC(card)
		return err
	}))
	assert.Equal(t, len(cards), next)
	memory := memoryKey(t, key.Algorithm(), tacMaster)
	for _, i := range []int{0, maxBatch - 1, maxBatch, len(cards) - 1} {
		for _, key := range []keyderive.Key{key, memory} {
			err := keyderive.NewMaster(key, path).WithCard(context.Background(), cards[i], func(card keyderive.Card) error {
				mac, err := recordTAC(card)
				assert.Equal(t, mac, macs[i], i)
				return err
			})
			require.NoError(t, err)
		}
	}
	mine := errors.New("mine")
	require.ErrorIs(t, key.LendCards(context.Background(), path, cards, func(int, keyderive.Card) error { return mine }), mine)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, key.LendCards(ctx, path, cards, func(int, keyderive.Card) error { return nil }), context.Canceled)
}

func recordTAC(card keyderive.Card) (mac keyderive.MAC, err error) {
	tac, err := card.TAC()
	if err == nil {
		mac, err = tac.MAC([]byte("record"))
	}
	return mac, err
}
