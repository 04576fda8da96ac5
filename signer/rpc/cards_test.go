package rpc

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer"
)

// flavour is one kind of card: a suite and a shipped card profile, with a key set of its own.
type flavour struct {
	alg     suite.Algorithm
	profile purse.Profile
}

func (f flavour) keySet() string {
	return fmt.Sprintf("%s-%s", strings.ToLower(f.alg.String()), f.profile)
}

// flavours are both suites with every shipped profile.
func flavours(t testing.TB) (all []flavour) {
	t.Helper()
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		for _, name := range purse.ShippedProfiles() {
			profile, err := purse.ShippedProfile(name)
			require.NoError(t, err)
			all = append(all, flavour{alg, profile})
		}
	}
	return all
}

// withFlavours adds a key set of all ten kinds for each flavour, and lets every client use it.
func withFlavours(t testing.TB) func(*setup) {
	return func(s *setup) {
		for _, f := range flavours(t) {
			s.keySets = append(s.keySets, f.set(t))
			for i := range s.clients {
				s.clients[i].KeySets = append(s.clients[i].KeySets, f.keySet())
			}
		}
	}
}

func (f flavour) set(t testing.TB) signer.KeySet {
	t.Helper()
	set := signer.KeySet{
		Name: f.keySet(), Algorithm: f.alg, Profile: f.profile, Location: time.FixedZone("CST", 8*3600),
		Issuer: signer.Issuer{Fixed: keyderive.RootFirst(keyderive.Factor(unhex(t, testIssuer)))},
	}
	for name, master := range softcard.TestOnlyMasters() {
		kind, err := keyderive.ParseKind(string(name))
		require.NoError(t, err)
		key, err := keyderive.InMemory(f.alg, secret.Copy(master[:]))
		require.NoError(t, err)
		block, err := f.alg.New(master[:])
		require.NoError(t, err)
		set.Versions = append(set.Versions, signer.Version{
			Kind: kind, Number: 1, State: custody.Active, Boundary: keyderive.BoundaryProcess, KCV: kcv.Of(block), Key: key,
		})
	}
	return set
}

// reader is a card of a flavour in a reader.
type reader struct {
	t    *testing.T
	card *softcard.Card
}

// personalise makes a card with keys of all kinds, 10,000 fen in each purse and a limit of 500 in ED, and selects it.
func (f flavour) personalise(t *testing.T, serial string, change ...func(*softcard.Options)) reader {
	t.Helper()
	factor, err := purse.ParseCardSerial(serial)
	require.NoError(t, err)
	keys, err := softcard.CardKeys(f.alg, softcard.TestOnlyMasters(), 1, [8]byte(unhex(t, testIssuer)), factor)
	require.NoError(t, err)
	o := softcard.Options{
		Algorithm: f.alg, Profile: f.profile, Serial: serial, Keys: keys,
		ED: softcard.Account{Balance: 10_000, Overdraft: 500, Online: 7, Offline: 3}, EP: softcard.Account{Balance: 10_000, Online: 7, Offline: 3},
		Random: rand.NewChaCha8([32]byte([]byte(serial + "0123456789ABCDEF"))),
	}
	for _, c := range change {
		c(&o)
	}
	card, err := softcard.Personalise(o)
	require.NoError(t, err)
	aid, err := purse.SelectApplication(softcard.DefaultAID())
	require.NoError(t, err)
	r := reader{t, card}
	r.tells(aid)
	return r
}

// tells is what the card answers to a command that it must take.
func (r reader) tells(a purse.APDU) string {
	r.t.Helper()
	return strings.ToUpper(tell(r.t, r.card, a.Hex()))
}

// refuses is a command that the card must refuse, with this status word.
func (r reader) refuses(command string, want purse.SW) {
	r.t.Helper()
	_, sw, err := purse.SplitAnswer(r.card.Transmit(unhex(r.t, command)))
	require.NoError(r.t, err)
	require.Equal(r.t, want, sw)
}

// flipped changes one bit of hex digits, counted from the end.
func flipped(t testing.TB, digits string, bit int) string {
	t.Helper()
	b := unhex(t, digits)
	b[len(b)-1-bit/8] ^= 1 << (bit % 8)
	return strings.ToUpper(hex.EncodeToString(b))
}
