package hsm

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// publishedBlock is TR-31:2018 A.7.4, under the AES-256 key of transportKeys.
const publishedBlock = "D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A27E8E31DA05F7425509593D03A457DC34"

// Masters move in key blocks under a transport key of every cipher, into every boundary that both tokens have, and compute what they
// computed.
func TestKeyBlockContract(t *testing.T) {
	for name, config := range bothTokens {
		t.Run(name, func(t *testing.T) {
			config := config(t)
			blockContract(t, openToken(t, config), config.Profile)
		})
	}
}

func TestKeyBlockContractOnOpenCryptoki(t *testing.T) {
	hsmtest.OnOpenCryptoki(t, func(t *testing.T, made *hsmtest.Token, _ *opencryptoki.Daemon) {
		config := openCryptokiConfig(t, made)
		blockContract(t, openToken(t, config), config.Profile)
	})
}

func blockContract(t *testing.T, token *Token, profile Profile) {
	ctx := context.Background()
	for c := range transportKeys {
		transport := importTransport(t, token, "t"+strings.Map(letters, c.String()), c)
		for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			for _, boundary := range allBoundaries {
				if boundary < profile.Strictest(keyderive.KindLoad, alg) {
					continue
				}
				spec := specOf(t, c.String()+alg.String()+boundary.String(), keyderive.KindLoad, alg, boundary, 1, loadMaster)
				header, err := MasterHeader(spec, 7, transport)
				if alg == suite.SM4 && c.Version() == keyblock.VersionB {
					var field *keyblock.FieldError
					require.ErrorAs(t, err, &field)
					assert.Equal(t, keyblock.FieldAlgorithm, field.Field)
					continue
				}
				require.NoError(t, err)
				key := secretOf(t, loadMaster)
				block, err := WrapKeyBlock(ctx, transport, header, key)
				require.NoError(t, err)
				again, err := WrapKeyBlock(ctx, transport, header, key)
				require.NoError(t, err)
				assert.NotEqual(t, block, again, "the padding is random")
				key.Wipe()
				_, opened, err := keyblock.UnwrapPurse(ctx, memoryProtector(t, c), block)
				require.NoError(t, err, "another party opens it")
				assert.Equal(t, bytesOf(t, loadMaster), opened.Key.Reveal("test"))
				opened.Wipe()

				received, err := token.ImportKeyBlock(ctx, transport, spec, 7, block)
				require.NoError(t, err, "%v %v %v", c, alg, boundary)
				assert.Equal(t, keyblock.Purse{Kind: "load", KVER: 7, Algorithm: alg, Check: spec.KCV}, received.Purse)
				if alg == suite.TDES {
					assert.Equal(t, keyblock.ParityOdd, received.Parity)
				}
				imported, err := token.Key(spec.Label)
				require.NoError(t, err)
				contractComputes(t, alg, imported)
				_, err = token.ImportKeyBlock(ctx, transport, spec, 7, block)
				require.ErrorIs(t, err, ErrExists)
			}
		}
	}
}

// letters leaves what a name has.
func letters(r rune) rune {
	if r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// A published block opens by a transport key of the token.
func TestPublishedBlockInTheToken(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	transport := importTransport(t, token, "t", keyblock.CipherAES256)
	u, err := keyblock.Unwrap(ctx, transport, publishedBlock)
	require.NoError(t, err)
	defer u.Wipe()
	assert.Equal(t, bytesOf(t, "3F419E1CB7079442AA37474C2EFBF8B8"), u.Key.Reveal("test"))
	again, err := keyblock.Wrap(ctx, transport, u.Header, u.Key, u.Padding.Reveal("test"))
	require.NoError(t, err)
	assert.Equal(t, publishedBlock, again)
	_, err = token.ImportKeyBlock(ctx, transport, specOf(t, "pin", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), 1, publishedBlock)
	require.ErrorIs(t, err, keyblock.ErrNoPurse, "a PIN key is no purse master")
}

// A right block of another key than the expected one is refused by name, and leaves nothing in the token.
func TestKeyBlocksOfOtherKeys(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	transport := importTransport(t, token, "t", keyblock.CipherAES128)
	right := specOf(t, "m", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	key := secretOf(t, loadMaster)
	defer key.Wipe()
	header, err := MasterHeader(right, 1, transport)
	require.NoError(t, err)
	block, err := WrapKeyBlock(ctx, transport, header, key)
	require.NoError(t, err)
	unknown, err := keyblock.Purse{Kind: "loads", KVER: 1, Algorithm: suite.TDES, Check: right.KCV}.Header(keyblock.VersionD)
	require.NoError(t, err)
	unknownBlock, err := WrapKeyBlock(ctx, transport, unknown, key)
	require.NoError(t, err)
	lying := right
	lying.KCV[0] ^= 1
	lyingHeader, err := MasterHeader(lying, 1, transport)
	require.NoError(t, err)
	lyingBlock, err := WrapKeyBlock(ctx, transport, lyingHeader, key)
	require.NoError(t, err)
	digit := block[100]
	altered := block[:100] + string(rune('0'+(digit+1)%8)) + block[101:]

	sm4 := specOf(t, "m", keyderive.KindLoad, suite.SM4, keyderive.BoundaryProcess, 1, loadMaster)
	for name, c := range map[string]struct {
		change func(s *KeySpec)
		kver   byte
		block  string
		want   error
	}{
		"another kind":           {func(s *KeySpec) { s.Kind = keyderive.KindUnload }, 1, block, ErrOtherKey},
		"another algorithm":      {func(s *KeySpec) { *s = sm4 }, 1, block, ErrOtherKey},
		"another KVER":           {func(*KeySpec) {}, 2, block, ErrOtherKey},
		"another check value":    {func(s *KeySpec) { s.KCV[1] ^= 1 }, 1, block, ErrOtherKey},
		"a kind of nobody":       {func(*KeySpec) {}, 1, unknownBlock, ErrOtherKey},
		"a header that lies":     {func(s *KeySpec) { *s = lying }, 1, lyingBlock, keyblock.ErrCheckValue},
		"an altered block":       {func(*KeySpec) {}, 1, altered, keyblock.ErrMAC},
		"a block without a spec": {func(s *KeySpec) { s.Label = reserved + "x" }, 1, block, nil},
	} {
		spec := right
		c.change(&spec)
		_, err := token.ImportKeyBlock(ctx, transport, spec, c.kver, c.block)
		if c.want != nil {
			require.ErrorIs(t, err, c.want, name)
		} else {
			require.ErrorContains(t, err, "reserved", name)
		}
		require.NotContains(t, err.Error(), loadMaster[:8])
	}
	onAnchor(t, token, func(s *session) error {
		found, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_LABEL, "m"))
		require.NoError(t, err)
		assert.Empty(t, found)
		return nil
	})
	_, err = token.ImportKeyBlock(ctx, transport, right, 1, block)
	require.NoError(t, err)

	single := secretOf(t, "0123456789ABCDEF0123456789ABCDEF")
	defer single.Wipe()
	weak := specOf(t, "weak", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, "0123456789ABCDEF0123456789ABCDEF")
	header, err = MasterHeader(weak, 1, transport)
	require.NoError(t, err)
	block, err = WrapKeyBlock(ctx, transport, header, single)
	require.NoError(t, err)
	_, err = token.ImportKeyBlock(ctx, transport, weak, 1, block)
	require.ErrorContains(t, err, "single DES")
}

// moody answers CMACs of one key and then of another, as a token that fails in the middle.
type moody struct {
	keyblock.Protector
	calls *int
	after int
}

func (m moody) CMAC(ctx context.Context, message []byte) (secret.Bytes, error) {
	*m.calls++
	mac, err := m.Protector.CMAC(ctx, message)
	if err == nil && *m.calls == m.after {
		mac.Reveal("to spoil it")[0] ^= 1
	}
	return mac, err
}

func TestWrongBlocksDoNotLeave(t *testing.T) {
	ctx := context.Background()
	spec := specOf(t, "m", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	p := memoryProtector(t, keyblock.CipherAES256)
	header, err := MasterHeader(spec, 1, p)
	require.NoError(t, err)
	key := secretOf(t, loadMaster)
	defer key.Wipe()
	for after := 1; after <= 8; after++ {
		calls := 0
		block, err := WrapKeyBlock(ctx, moody{p, &calls, after}, header, key)
		require.Error(t, err, after)
		require.True(t, errors.Is(err, ErrSelfTest), "%d: %v", after, err)
		assert.Empty(t, block)
	}
	for _, n := range []int{0, 33} {
		other := secret.New(n)
		_, err = WrapKeyBlock(ctx, p, header, other)
		other.Wipe()
		require.Error(t, err)
	}
	_, err = MasterHeader(KeySpec{}, 1, p)
	require.Error(t, err)
}
