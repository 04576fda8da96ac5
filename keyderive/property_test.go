package keyderive

import (
	"context"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// The schedule written down a second time, straight from EPURSE.md §2–§4 over block ciphers, for comparison.

func open(t *rapid.T, alg suite.Algorithm, key []byte) cipher.Block {
	block, err := alg.New(key)
	require.NoError(t, err)
	return block
}

func ecb(block cipher.Block, in []byte) []byte {
	out := make([]byte, len(in))
	for at := 0; at < len(in); at += block.BlockSize() {
		block.Encrypt(out[at:], in[at:])
	}
	return out
}

func inverse(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = ^b[i]
	}
	return out
}

func plainDiversify(t *rapid.T, alg suite.Algorithm, key []byte, factor Factor) []byte {
	return ecb(open(t, alg, key), append(append([]byte(nil), factor[:]...), inverse(factor[:])...))
}

// plainCBC is CBC-MAC by hand: pad, then chain.
func plainCBC(block cipher.Block, iv, data []byte) []byte {
	size := block.BlockSize()
	padded := append(append([]byte(nil), data...), 0x80)
	for len(padded)%size != 0 {
		padded = append(padded, 0)
	}
	state := append([]byte(nil), iv...)
	for at := 0; at < len(padded); at += size {
		subtle.XORBytes(state, state, padded[at:at+size])
		block.Encrypt(state, state)
	}
	return state
}

func plainSession(t *rapid.T, alg suite.Algorithm, card []byte, in Factor) cipher.Block {
	if alg == suite.SM4 {
		return open(t, alg, ecb(open(t, alg, card), append(append([]byte(nil), in[:]...), inverse(in[:])...)))
	}
	block, err := suite.NewDES(ecb(open(t, alg, card), in[:]))
	require.NoError(t, err)
	return block
}

func plainFolded(t *rapid.T, alg suite.Algorithm, card []byte) cipher.Block {
	if alg == suite.SM4 {
		return open(t, alg, card)
	}
	half := make([]byte, 8)
	subtle.XORBytes(half, card[:8], card[8:])
	block, err := suite.NewDES(half)
	require.NoError(t, err)
	return block
}

func plainMessaging(t *rapid.T, alg suite.Algorithm, card, iv, data []byte) []byte {
	if alg == suite.SM4 {
		return plainCBC(open(t, alg, card), iv, data)
	}
	left, err := suite.NewDES(card[:8])
	require.NoError(t, err)
	right, err := suite.NewDES(card[8:])
	require.NoError(t, err)
	mac := plainCBC(left, iv, data)
	right.Decrypt(mac, mac)
	left.Encrypt(mac, mac)
	return mac
}

func TestScheduleAgreesWithThePlainOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alg := rapid.SampledFrom([]suite.Algorithm{suite.TDES, suite.SM4}).Draw(t, "alg")
		master := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "master")
		data := rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "data")
		iv := rapid.SliceOfN(rapid.Byte(), alg.BlockSize(), alg.BlockSize()).Draw(t, "iv")
		in, serial := drawFactor(t, "in"), drawFactor(t, "serial")
		levels := make([]Factor, rapid.IntRange(0, 2).Draw(t, "levels"))
		card := master
		for i := range levels {
			levels[i] = drawFactor(t, "level")
			card = plainDiversify(t, alg, card, levels[i])
		}
		card = plainDiversify(t, alg, card, serial)

		value := secret.Copy(master)
		defer value.Wipe()
		key, err := InMemory(alg, value)
		require.NoError(t, err)
		require.NoError(t, NewMaster(key, RootFirst(levels...)).WithCard(context.Background(), serial, func(lent Card) error {
			session, err := lent.Session(in)
			require.NoError(t, err)
			mac, err := session.MAC(data)
			require.NoError(t, err)
			zero := make([]byte, alg.BlockSize())
			require.Equal(t, MAC(plainCBC(plainSession(t, alg, card, in), zero, data)), mac)

			tac, err := lent.TAC()
			require.NoError(t, err)
			mac, err = tac.MAC(data)
			require.NoError(t, err)
			require.Equal(t, MAC(plainCBC(plainFolded(t, alg, card), zero, data)), mac)
			reload, err := lent.Reload()
			require.NoError(t, err)
			require.NoError(t, reload.Verify(data, mac))

			messaging, err := lent.Messaging()
			require.NoError(t, err)
			require.Equal(t, alg, messaging.Algorithm())
			mac, err = messaging.MAC(iv, data)
			require.NoError(t, err)
			require.Equal(t, MAC(plainMessaging(t, alg, card, iv, data)), mac)
			blocks, err := messaging.Encrypt(append(iv, iv...))
			require.NoError(t, err)
			require.Equal(t, ecb(open(t, alg, card), append(iv, iv...)), blocks)
			return nil
		}))
	})
}

// Answer issues a MAC only to the right proof: one wrong bit anywhere, and there is none.
func TestAnswerNeedsTheRightProof(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alg := rapid.SampledFrom([]suite.Algorithm{suite.TDES, suite.SM4}).Draw(t, "alg")
		value := secret.Take(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "master"))
		defer value.Wipe()
		key, err := InMemory(alg, value)
		require.NoError(t, err)
		proof := rapid.SliceOfN(rapid.Byte(), 15, 15).Draw(t, "proof")
		issue := rapid.SliceOfN(rapid.Byte(), 18, 18).Draw(t, "issue")
		bit := rapid.IntRange(0, 31).Draw(t, "bit")
		require.NoError(t, NewMaster(key, Path{}).WithCard(context.Background(), drawFactor(t, "card"), func(card Card) error {
			session, err := card.Session(drawFactor(t, "in"))
			require.NoError(t, err)
			right, err := session.MAC(proof)
			require.NoError(t, err)
			wrong := right
			wrong[bit/8] ^= 1 << (bit % 8)
			issued, err := session.Answer(proof, wrong, issue)
			require.ErrorIs(t, err, ErrMismatch)
			require.Zero(t, issued)
			issued, err = session.Answer(proof, right, issue)
			require.NoError(t, err)
			return session.Verify(issue, issued)
		}))
	})
}

// counting is a unit that keeps of each CBC how much it was of.
type counting struct {
	Unit
	asked *[]int
}

func (c counting) CBC(iv, padded []byte) ([]byte, error) {
	*c.asked = append(*c.asked, len(padded))
	return c.Unit.CBC(iv, padded)
}

// A wrong MAC is not told from a right one by what the engine does.
func TestAnswerAsksTheSameOfTheEngine(t *testing.T) {
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		value := secret.Take(make([]byte, 16))
		defer value.Wipe()
		key, err := InMemory(alg, value)
		require.NoError(t, err)
		require.NoError(t, NewMaster(key, Path{}).WithCard(context.Background(), Factor{}, func(card Card) error {
			session, err := card.Session(Factor{})
			require.NoError(t, err)
			proof, issue := make([]byte, 15), []byte("eighteen bytes too")
			right, err := session.MAC(proof)
			require.NoError(t, err)
			wrong := right
			wrong[0]++
			var ofRight, ofWrong []int
			_, err = Session{macer{alg, counting{session.key, &ofRight}}}.Answer(proof, right, issue)
			require.NoError(t, err)
			_, err = Session{macer{alg, counting{session.key, &ofWrong}}}.Answer(proof, wrong, issue)
			require.ErrorIs(t, err, ErrMismatch)
			require.Len(t, ofRight, 2)
			require.Equal(t, ofRight, ofWrong)
			return nil
		}))
	}
}

// away is a unit of a token that has gone; every method fails.
type away struct{}

var errAway = errors.New("away")

func (away) Derive([16]byte, Purpose) (Unit, error) { return nil, errAway }
func (away) FoldHalves() (Unit, error)              { return nil, errAway }
func (away) CBC(_, _ []byte) ([]byte, error)        { return nil, errAway }
func (away) ECB([]byte) ([]byte, error)             { return nil, errAway }

// An engine's failure is never a MAC, and never a mismatch.
func TestEngineErrorsComeThrough(t *testing.T) {
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		card := CardOf(alg, away{}, away{})
		_, err := card.Session(Factor{})
		require.ErrorIs(t, err, errAway)
		messaging, err := card.Messaging()
		require.NoError(t, err)
		_, err = messaging.MAC(make([]byte, alg.BlockSize()), nil)
		require.ErrorIs(t, err, errAway)
		_, err = messaging.Encrypt(nil)
		require.ErrorIs(t, err, errAway)
		tac, err := card.TAC()
		if alg == suite.TDES {
			require.ErrorIs(t, err, errAway)
			continue
		}
		require.NoError(t, err)
		_, err = tac.MAC(nil)
		require.ErrorIs(t, err, errAway)
		err = tac.Verify(nil, MAC{})
		require.ErrorIs(t, err, errAway)
		require.NotErrorIs(t, err, ErrMismatch)
	}
}
