package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer"
)

const (
	personaliseCard = pursekeeperv1connect.SignerServicePersonaliseCardProcedure
	personalisePSAM = pursekeeperv1connect.SignerServicePersonalisePSAMProcedure
)

// issue is a key set for issuance: a suite, a card profile, and the boundary of its masters on a real SoftHSM.
type issue struct {
	alg      suite.Algorithm
	profile  purse.Profile
	boundary keyderive.Boundary
}

func (i issue) set() string {
	return strings.ToLower(fmt.Sprintf("issue-%v-%v", i.alg, i.profile))
}

// issues are both suites with every shipped profile.
func issues(t testing.TB) (all []issue) {
	t.Helper()
	for _, name := range purse.ShippedProfiles() {
		profile, err := purse.ShippedProfile(name)
		require.NoError(t, err)
		all = append(all, issue{suite.TDES, profile, keyderive.BoundaryCard}, issue{suite.SM4, profile, keyderive.BoundaryProcess})
	}
	return all
}

// firstIssue is 3DES with the default profile, its masters at the CARD boundary.
func firstIssue(t testing.TB) issue { t.Helper(); return issues(t)[0] }

// issueMasters are published test masters by kind, and of the two control kinds a second version.
func issueMasters() map[keyderive.Kind][]softcard.KeyValue {
	masters := map[keyderive.Kind][]softcard.KeyValue{}
	all := softcard.TestOnlyMasters()
	maps.Copy(all, softcard.TestOnlyModuleMasters())
	for _, kind := range keyderive.Kinds() {
		masters[kind] = []softcard.KeyValue{all[purse.KeyKind(kind.String())]}
	}
	for _, kind := range []keyderive.Kind{keyderive.KindControl, keyderive.KindReaderControl} {
		newer := masters[kind][0]
		for i := range newer {
			newer[i] ^= 0x5A
		}
		masters[kind] = append(masters[kind], newer)
	}
	return masters
}

// bureau is a signer whose masters are on a SoftHSM token of the test's own, and the bureau that calls it.
type bureau struct {
	*world
	client pursekeeperv1connect.SignerServiceClient
}

// newBureau runs a signer with these key sets, which every client may use.
func newBureau(t *testing.T, sets ...signer.KeySet) *bureau {
	t.Helper()
	w := newWorld(t, func(s *setup) {
		s.keySets = append(s.keySets, sets...)
		for _, set := range sets {
			for i := range s.clients {
				s.clients[i].KeySets = append(s.clients[i].KeySets, set.Name)
			}
		}
	})
	return &bureau{w, w.as("personaliser").signer(connect.WithGRPC())}
}

// issueToken opens a fresh token.
func issueToken(t *testing.T) *hsm.Token {
	t.Helper()
	made := hsmtest.NewToken(t)
	token, err := hsm.Open(t.Context(), hsm.Config{
		Module: made.Module, TokenLabel: made.Label,
		PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(made.PIN)), nil },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, token.Close()) })
	return token
}

// keySet imports the masters of an issue into the token; boundary chooses where each is.
func (i issue) keySet(t *testing.T, token *hsm.Token, boundary func(keyderive.Kind) keyderive.Boundary) signer.KeySet {
	t.Helper()
	set := signer.KeySet{
		Name: i.set(), Algorithm: i.alg, Profile: i.profile, Location: time.FixedZone("CST", 8*3600),
		Issuer: signer.Issuer{Fixed: keyderive.RootFirst(keyderive.Factor(unhex(t, testIssuer)))},
	}
	for kind, versions := range issueMasters() {
		for n, master := range versions {
			block, err := i.alg.New(master[:])
			require.NoError(t, err)
			spec := hsm.KeySpec{
				Label: fmt.Sprintf("%s/%v/%d", i.set(), kind, n+1), Kind: kind, Algorithm: i.alg, Boundary: boundary(kind), KCV: kcv.Of(block),
				IssuerLevels: 1,
			}
			value := secret.Copy(master[:])
			require.NoError(t, token.ImportMaster(t.Context(), spec, value))
			value.Wipe()
			key, err := token.Key(spec.Label)
			require.NoError(t, err)
			set.Versions = append(set.Versions, signer.Version{
				Kind: kind, Number: n + 1, State: custody.Active, Boundary: spec.Boundary, KCV: spec.KCV, Key: key,
			})
		}
	}
	return set
}

// diversified is a test master's key of a card or a module, by the card maker's own computation.
func (i issue) diversified(t testing.TB, kind keyderive.Kind, version int, factor string) softcard.KeyValue {
	t.Helper()
	value, err := softcard.Diversify(i.alg, issueMasters()[kind][version-1], [8]byte(unhex(t, testIssuer)), [8]byte(unhex(t, factor)))
	require.NoError(t, err)
	return value
}

// keyText is a test key as a snapshot has it: the value itself prints as "[redacted]".
func keyText(value softcard.KeyValue) string { return fmt.Sprintf("%X", value[:]) }

// blank is a card as it leaves its maker: money and files, and no key but the control key.
func (i issue) blank(t *testing.T) *softcard.Card {
	t.Helper()
	card, err := softcard.Personalise(softcard.Options{
		Algorithm: i.alg, Profile: i.profile, Serial: demoCard, Random: new(cardRandom),
		ED: softcard.Account{Balance: 1000, Online: 7, Offline: 3}, EP: softcard.Account{Balance: 1000, Online: 7, Offline: 3},
		Keys: map[purse.KeyKind][]softcard.Key{purse.KeyControl: {{Version: 1, Value: i.diversified(t, keyderive.KindControl, 1, demoCard)}}},
	})
	require.NoError(t, err)
	aid, err := purse.SelectApplication(softcard.DefaultAID())
	require.NoError(t, err)
	tell(t, card, aid.Hex())
	return card
}

// cardRandom never repeats four bytes.
type cardRandom struct{ next uint32 }

func (c *cardRandom) Read(p []byte) (int, error) {
	for at := range p {
		if at%4 == 0 {
			c.next += 0x9E3779B1
		}
		p[at] = byte(c.next >> (8 * (at % 4)))
	}
	return len(p), nil
}

// chip is a card or a module.
type chip interface{ Transmit([]byte) []byte }

// says is the status word that a chip answers to a command.
func says(t *testing.T, c chip, command string) purse.SW {
	t.Helper()
	_, sw, err := purse.SplitAnswer(c.Transmit(unhex(t, command)))
	require.NoError(t, err)
	return sw
}

// challenge is what a chip answers to GET CHALLENGE.
func (i issue) challenge(t *testing.T, c chip) string {
	t.Helper()
	data, sw, err := purse.SplitAnswer(c.Transmit(purse.Challenge(i.profile).Bytes()))
	require.NoError(t, err)
	require.Equal(t, purse.SWOK, sw)
	return fmt.Sprintf("%X", data)
}

// cardWrite asks for the command of one kind under a challenge.
func (b *bureau) cardWrite(i issue, kind, challenge string, onCard uint32) *v1.PersonaliseCardResponse {
	b.t.Helper()
	answer, err := b.client.PersonaliseCard(context.Background(), &v1.PersonaliseCardRequest{
		KeySet: i.set(), CardSerial: demoCard, ControlKeyVersion: onCard, Kinds: []string{kind}, Challenges: []string{challenge},
	})
	require.NoError(b.t, err)
	require.Equal(b.t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome, answer.Detail)
	require.Len(b.t, answer.Writes, 1)
	require.Equal(b.t, kind, answer.Writes[0].Key.Kind)
	return answer
}

func (b *bureau) moduleWrite(i issue, kind, challenge string, onModule uint32) *v1.PersonalisePSAMResponse {
	b.t.Helper()
	answer, err := b.client.PersonalisePSAM(context.Background(), &v1.PersonalisePSAMRequest{
		KeySet: i.set(), DeviceNumber: demoDevice, ControlKeyVersion: onModule, Kinds: []string{kind}, Challenges: []string{challenge},
	})
	require.NoError(b.t, err)
	require.Equal(b.t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome, answer.Detail)
	require.Len(b.t, answer.Writes, 1)
	return answer
}

// keysOf are the keys that a card holds, by kind.
func keysOf(t *testing.T, card *softcard.Card) map[string]string {
	t.Helper()
	snapshot, err := card.Snapshot()
	require.NoError(t, err)
	var state struct {
		TestKeys []struct{ Kind, Value string }
	}
	require.NoError(t, json.Unmarshal(snapshot, &state))
	keys := map[string]string{}
	for _, key := range state.TestKeys {
		require.NotContains(t, keys, key.Kind)
		keys[key.Kind] = key.Value
	}
	return keys
}
