package rpc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/purse/softreader"
	"github.com/pursekeeper/pursekeeper/signer"
)

// A purchase and a session of the demonstration, for requests that need no key.
const (
	demoDevice     = "0000202600000017"
	demoPurchaseID = "demo/" + demoCard + "/EP/PURCHASE/0003/A1B2C3D4"
	demoSessionID  = "demo/READER/" + demoDevice + "/0123456789ABCDEF"
	demoFrame      = "010200000000010001" + "00" + "0000000000000000"
)

func demoPurchase() fields {
	return fields{
		"keySet": "demo", "cardSerial": demoCard, "type": "06", "amountFen": 100, "terminalId": "112233445566",
		"initializeResponse": "000003E8 0003 000000 01 00 A1B2C3D4", "date": "20240131", "time": "235959",
	}
}

// shopMasters are the masters of a shop's key set. Published test keys, never real ones.
func shopMasters() map[keyderive.Kind]softcard.KeyValue {
	return map[keyderive.Kind]softcard.KeyValue{
		keyderive.KindPurchase: softcard.TestOnlyMasters()[purse.KeyPurchase],
		keyderive.KindTAC:      softcard.TestOnlyMasters()[purse.KeyTAC],
		keyderive.KindReader:   {0x5A, 0x69, 0x78, 0x87, 0x96, 0xA5, 0xB4, 0xC3, 0xD2, 0xE1, 0xF0, 0x0F, 0x1E, 0x2D, 0x3C, 0x4B},
	}
}

// shop is a world whose demo sets have a shop's keys and one profile.
func shop(t *testing.T, profile purse.Profile) *world {
	t.Helper()
	return newWorld(t, func(s *setup) {
		for i := range s.keySets {
			set := &s.keySets[i]
			set.Profile, set.Versions, set.MAC1Failures = profile, nil, 5
			for kind, master := range shopMasters() {
				key, err := keyderive.InMemory(set.Algorithm, secret.Take(bytes.Clone(master[:])))
				require.NoError(t, err)
				block, err := set.Algorithm.New(master[:])
				require.NoError(t, err)
				set.Versions = append(set.Versions, signer.Version{
					Kind: kind, Number: 1, State: custody.Active, Boundary: keyderive.BoundaryProcess, KCV: kcv.Of(block), Key: key,
				})
			}
		}
	})
}

func (c caller) reader(options ...connect.ClientOption) pursekeeperv1connect.ReaderServiceClient {
	return pursekeeperv1connect.NewReaderServiceClient(c.http, c.base, options...)
}

// shopCard is a card that pays in a shop: 10 yuan in each purse, OFFSN 3.
func shopCard(t *testing.T, alg suite.Algorithm, profile purse.Profile) *softcard.Card {
	t.Helper()
	factor, err := purse.ParseCardSerial(demoCard)
	require.NoError(t, err)
	masters := map[purse.KeyKind]softcard.KeyValue{}
	for _, kind := range []keyderive.Kind{keyderive.KindPurchase, keyderive.KindTAC} {
		masters[purse.KeyKind(kind.String())] = shopMasters()[kind]
	}
	keys, err := softcard.CardKeys(alg, masters, 1, [8]byte(unhex(t, testIssuer)), factor)
	require.NoError(t, err)
	card, err := softcard.Personalise(softcard.Options{
		Algorithm: alg, Profile: profile, Serial: demoCard, Keys: keys, Random: rand.NewChaCha8([32]byte{1}),
		ED: softcard.Account{Balance: 1000, Offline: 3}, EP: softcard.Account{Balance: 1000, Offline: 3},
		Records: map[byte][][]byte{0x17: {make([]byte, 8)}},
	})
	require.NoError(t, err)
	aid, err := purse.SelectApplication(softcard.DefaultAID())
	require.NoError(t, err)
	tell(t, card, aid.Hex())
	return card
}

// A card in software and a terminal that asks the service: every type, both suites, each shipped profile, over mTLS.
func TestCardsPayOverTheWire(t *testing.T) {
	for _, name := range []string{"pboc-ep", "transport", "fmcos"} {
		profile, err := purse.ShippedProfile(name)
		require.NoError(t, err)
		w := shop(t, profile)
		client := w.as("reader").reader(connect.WithGRPC())
		serial := map[string]int{}
		for set, alg := range map[string]suite.Algorithm{"demo": suite.TDES, "demo-sm4": suite.SM4} {
			card := shopCard(t, alg, profile)
			for _, tti := range []purse.TTI{purse.TTICashWithdrawal, purse.TTIPurchaseED, purse.TTIPurchaseEP, purse.TTICompound} {
				serial[set]++
				t.Run(fmt.Sprintf("%s/%v/%02X", name, alg, uint8(tti)), func(t *testing.T) {
					payOverTheWire(t, client, card, profile, set, tti, serial[set])
				})
			}
		}
	}
}

func payOverTheWire(
	t *testing.T, client pursekeeperv1connect.ReaderServiceClient, card *softcard.Card, profile purse.Profile, set string, tti purse.TTI, serial int,
) {
	terminal, err := purse.ParseTerminal("112233445566")
	require.NoError(t, err)
	initialize, err := purse.InitializeForPurchase(profile, tti, 100, terminal)
	require.NoError(t, err)
	request := &v1.BeginPurchaseRequest{
		KeySet: set, CardSerial: demoCard, Type: fmt.Sprintf("%02X", uint8(tti)), AmountFen: 100, TerminalId: terminal.String(),
		InitializeResponse: tell(t, card, initialize.Hex()),
	}
	begun, err := client.BeginPurchase(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, v1.Outcome_OUTCOME_APPROVED, begun.Outcome, begun.Detail)
	assert.Equal(t, fmt.Sprintf("%08X", serial), begun.TerminalSerial)
	assert.Equal(t, []string{set, "purchase"}, []string{begun.Key.Set, begun.Key.Kind})
	assert.Equal(t, v1.Boundary_BOUNDARY_PROCESS, begun.Boundary)
	again, err := client.BeginPurchase(t.Context(), request)
	require.NoError(t, err)
	assert.Equal(t, begun.String(), again.String())

	if tti == purse.TTICompound {
		cache, err := purse.UpdateCAPPCache(0x01, 0x17<<3|4, make([]byte, 8))
		require.NoError(t, err)
		tell(t, card, cache.Hex())
	}
	answer := tell(t, card, begun.Command)
	tac, mac2 := answer[:8], answer[8:]
	complete := func(mac2, tac string, want v1.Outcome) *v1.CompletePurchaseResponse {
		r, err := client.CompletePurchase(t.Context(), &v1.CompletePurchaseRequest{PurchaseId: begun.PurchaseId, Mac2: mac2, Tac: tac})
		require.NoError(t, err)
		assert.Equal(t, want, r.Outcome, r.Detail)
		return r
	}
	complete("00000000", "", v1.Outcome_OUTCOME_MAC_MISMATCH)
	complete(mac2, "00000000", v1.Outcome_OUTCOME_TAC_MISMATCH)
	paid := complete(mac2, tac, v1.Outcome_OUTCOME_VERIFIED)
	assert.Equal(t, []string{"purchase", "tac"}, []string{paid.Key.Kind, paid.TacKey.Kind})
	assert.Equal(t, v1.Boundary_BOUNDARY_PROCESS, paid.TacBoundary)
	assert.Equal(t, begun.PurchaseId, paid.PurchaseId)
	alone := complete(mac2, "", v1.Outcome_OUTCOME_VERIFIED)
	assert.Nil(t, alone.TacKey)
}

// A module in software and the service, over mTLS in both suites: authenticated, and frames both ways to the last; what is not the
// next frame is refused.
func TestAModuleSpeaksOverTheWire(t *testing.T) {
	profile, err := purse.ShippedProfile(purse.ProfilePBOC)
	require.NoError(t, err)
	w := shop(t, profile)
	client := w.as("reader").reader()
	for set, alg := range map[string]suite.Algorithm{"demo": suite.TDES, "demo-sm4": suite.SM4} {
		key, err := softreader.Diversify(alg, shopMasters()[keyderive.KindReader], [8]byte(unhex(t, testIssuer)), [8]byte(unhex(t, demoDevice)))
		require.NoError(t, err)
		m, err := softreader.New(softreader.Options{
			Algorithm: alg, Number: [8]byte(unhex(t, demoDevice)), Key: key, Random: rand.NewChaCha8([32]byte{2}),
		})
		require.NoError(t, err)
		c, err := client.Challenge(t.Context(), &v1.ChallengeRequest{KeySet: set, DeviceNumber: demoDevice})
		require.NoError(t, err)
		require.Equal(t, v1.Outcome_OUTCOME_APPROVED, c.Outcome)
		assert.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`, c.ExpiresAt)
		own, proof, err := m.Answer([8]byte(unhex(t, c.Challenge)))
		require.NoError(t, err)
		a, err := client.Authenticate(t.Context(), &v1.AuthenticateRequest{
			SessionId: c.SessionId, DeviceChallenge: hex.EncodeToString(own[:]), DeviceProof: hex.EncodeToString(proof[:]),
		})
		require.NoError(t, err)
		require.Equal(t, v1.Outcome_OUTCOME_VERIFIED, a.Outcome)
		require.NoError(t, m.Accept([8]byte(unhex(t, a.HostProof))))

		data := bytes.Repeat([]byte("80DC"), 4096)
		for n, last := range []bool{false, true} {
			s, err := client.Seal(t.Context(), &v1.SealRequest{SessionId: c.SessionId, Data: hex.EncodeToString(data), Last: last})
			require.NoError(t, err)
			assert.EqualValues(t, n+1, s.Sequence)
			got, end, err := m.Open(unhex(t, s.Frame))
			require.NoError(t, err)
			assert.Equal(t, data, got)
			assert.Equal(t, last, end)

			frame, err := m.Seal(data, last)
			require.NoError(t, err)
			wrong := bytes.Clone(frame)
			wrong[len(wrong)-1] ^= 1
			for _, try := range []struct {
				frame []byte
				want  v1.Outcome
			}{{wrong, v1.Outcome_OUTCOME_MAC_MISMATCH}, {frame, v1.Outcome_OUTCOME_VERIFIED}} {
				o, err := client.Open(t.Context(), &v1.OpenRequest{SessionId: c.SessionId, Frame: hex.EncodeToString(try.frame)})
				require.NoError(t, err)
				assert.Equal(t, try.want, o.Outcome)
				assert.Equal(t, try.want == v1.Outcome_OUTCOME_VERIFIED, o.Data == strings.ToUpper(hex.EncodeToString(data)))
				assert.Equal(t, last && o.Data != "", o.Last)
			}
		}
		s, err := client.Seal(t.Context(), &v1.SealRequest{SessionId: c.SessionId, Data: "00"})
		require.NoError(t, err)
		assert.Equal(t, v1.Outcome_OUTCOME_SESSION_EXPIRED, s.Outcome)
	}
	require.NoError(t, w.end())
	for _, secret := range []string{"80DC80DC", hex.EncodeToString([]byte("80DC80DC"))} {
		assert.NotContains(t, strings.ToUpper(w.logs.String()), secret)
	}
}

// readerRefusals are malformed requests of readers.
func readerRefusals() (rows []refusal) {
	buy := func(name, field string, value any, message string) {
		rows = append(rows, refusal{name, beginPurchase, demoPurchase().with(field, value), invalid, message})
	}
	buy("type missing", "type", nil, "type: 0 bytes, expected 1")
	buy("type of a load", "type", "02", "type: 02 EP load, expected 04, 05, 06 or 09")
	buy("type unknown", "type", "08", "type: unknown transaction type 08")
	buy("type too long", "type", "0606", "type: 2 bytes, expected 1")
	buy("serial missing", "cardSerial", nil, "cardSerial: 0 hex digits, expected 1 to 20")
	buy("issuer of a set with fixed factors", "issuerId", "2000200020002000", "issuerId: is not the issuer factor of this key set")
	buy("amount 0", "amountFen", 0, "amountFen: is 0, expected 1 to the card's balance, 1000")
	buy("amount over the balance", "amountFen", 1001, "amountFen: is 1001, expected 1 to the card's balance, 1000")
	buy("amount in five bytes", "amountFen", 1<<32, "amountFen: 4294967296 fen do not fit in four bytes")
	buy("terminal short", "terminalId", "1122334455", "terminalId: 5 bytes, expected 6")
	buy("answer of a load", "initializeResponse", demoAnswer+demoMAC1, "initializeResponse: 16 bytes, expected 15")
	buy("answer not hex", "initializeResponse", "000003E8 0003 000000 01 00 A1B2C3DG", "initializeResponse: character 35: 'G' is not a hex digit")
	buy("counter exhausted", "initializeResponse", "000003E8 FFFF 000000 01 00 A1B2C3D4", "initializeResponse: OFFSN is FFFF")
	buy("ALG not listed", "keySet", "listed", "initializeResponse: ALG is not one that the card profile lists")
	buy("date alone", "time", nil, "time: missing: date and time come together or not at all")
	buy("time alone", "date", nil, "date: missing: date and time come together or not at all")
	buy("no such day", "date", "20230229", "date: ")
	buy("no such hour", "time", "240000", "time: ")
	return append(rows, sessionRefusals()...)
}

func sessionRefusals() []refusal {
	complete := func(id, mac2, tac string) fields { return fields{"purchaseId": id, "mac2": mac2, "tac": tac} }
	ask := func(name string, value any) fields {
		return fields{"keySet": "demo", "deviceNumber": demoDevice}.with(name, value)
	}
	prove := func(name string, value any) fields {
		return fields{"sessionId": demoSessionID, "deviceChallenge": demoDevice, "deviceProof": demoDevice}.with(name, value)
	}
	const form = "expected SET/READER/DEVICE/NUMBER"
	return []refusal{
		{"unknown key set", beginPurchase, demoPurchase().with("keySet", "x"), "not_found", "keySet: is not known"},
		{"purchase malformed", completePurchase, complete("x", "00000000", ""), invalid, "purchaseId: the id: 1 parts"},
		{"purchase of a load", completePurchase, complete(demoID, "00000000", ""), invalid, "purchaseId: operation: "},
		{"purchase unknown", completePurchase, complete(demoPurchaseID, "00000000", ""), "not_found", "purchaseId: is not known"},
		{"mac2 missing", completePurchase, complete(demoPurchaseID, "", ""), invalid, "mac2: 0 bytes, expected 4"},
		{"tac short", completePurchase, complete(demoPurchaseID, "00000000", "00"), invalid, "tac: 1 bytes, expected 4"},
		{"device missing", challenge, ask("deviceNumber", nil), invalid, "deviceNumber: 0 bytes, expected 8"},
		{"device not hex", challenge, ask("deviceNumber", "x"), invalid, "deviceNumber: character 1: 'x' is not a hex digit"},
		{"version too large", challenge, ask("keyVersion", 256), invalid, "keyVersion: is 256, expected 1 to 255, or 0"},
		{"challenge of no set", challenge, ask("keySet", "x"), "not_found", "keySet: is not known"},
		{"session malformed", authenticate, prove("sessionId", "x"), invalid, "sessionId: " + form},
		{"session unknown", authenticate, prove("deviceProof", nil), "not_found", "sessionId: is not known"},
		{"seal malformed", sealFrame, fields{"sessionId": "demo/READER/0/0", "data": "00"}, invalid, "sessionId: " + form},
		{"seal unknown", sealFrame, fields{"sessionId": demoSessionID, "data": "x"}, "not_found", "sessionId: is not known"},
		{"open malformed", openFrame, fields{"sessionId": demoSessionID + "0", "frame": "00"}, invalid, "sessionId: " + form},
		{"open unknown", openFrame, fields{"sessionId": demoSessionID, "frame": "x"}, "not_found", "sessionId: is not known"},
	}
}

// Every malformed request of a reader is refused with its code and a message that names the field, and leaves nothing behind.
func TestMalformedReaderRequests(t *testing.T) {
	w := newWorld(t)
	reader := w.as("reader")
	for _, row := range readerRefusals() {
		r := reader.post(row.method, row.body)
		assert.Equal(t, row.code, r.code(), "%s: %v", row.name, r.body)
		assert.Contains(t, r.message(), row.message, row.name)
		quiet(t, r.message(), row.name)
		wantStatus := map[string]int{invalid: http.StatusBadRequest, "not_found": http.StatusNotFound}[row.code]
		assert.Equal(t, wantStatus, r.status, row.name)
	}
	assert.Len(t, w.entries(), 1)
}

// What is malformed about a session that is there; an error shows nothing of the data.
func TestMalformedFrames(t *testing.T) {
	profile, err := purse.ShippedProfile(purse.ProfilePBOC)
	require.NoError(t, err)
	w := shop(t, profile)
	reader := w.as("reader")
	begun := reader.post(challenge, fields{"keySet": "demo", "deviceNumber": "0000 2026 0000 0017"})
	require.Equal(t, "OUTCOME_APPROVED", begun.body["outcome"], "%v", begun.body)
	id := begun.text("sessionId")
	assert.True(t, strings.HasPrefix(id, "demo/READER/"+demoDevice+"/"), id)
	before := len(w.entries())
	for _, row := range []refusal{
		{"challenge short", authenticate, fields{"deviceChallenge": "00", "deviceProof": demoDevice}, invalid, "deviceChallenge: 1 bytes, expected 8"},
		{"proof missing", authenticate, fields{"deviceChallenge": demoDevice}, invalid, "deviceProof: 0 bytes, expected 8"},
		{"data missing", sealFrame, fields{}, invalid, "data: 0 bytes, expected 1 to 16384"},
		{"data odd", sealFrame, fields{"data": "123"}, invalid, "data: an odd number of hex digits"},
		{"data not hex", sealFrame, fields{"data": "5D5364F?"}, invalid, "data: not hex digits"},
		{"data too long", sealFrame, fields{"data": strings.Repeat("00", 16385)}, invalid, "data: 16385 bytes, expected 1 to 16384"},
		{"frame missing", openFrame, fields{}, invalid, "frame: 0 bytes, expected 1 to 16401"},
		{"frame cut", openFrame, fields{"frame": demoFrame[2:]}, invalid, "frame: 17 bytes, expected at least 18"},
		{"frame of version 2", openFrame, fields{"frame": "02" + demoFrame[2:]}, invalid, "frame: version 2"},
		{"frame of the host", openFrame, fields{"frame": "0101" + demoFrame[4:]}, invalid, "frame: it is not a frame from the module"},
		{"frame too long", openFrame, fields{"frame": strings.Repeat("00", 16402)}, invalid, "frame: 16402 bytes, expected 1 to 16401"},
	} {
		r := reader.post(row.method, row.body.with("sessionId", id))
		assert.Equal(t, row.code, r.code(), "%s: %v", row.name, r.body)
		assert.Contains(t, r.message(), row.message, row.name)
		quiet(t, r.message(), row.name)
	}
	assert.Len(t, w.entries(), before)
	sealed := reader.post(sealFrame, fields{"sessionId": id, "data": "00"})
	assert.Equal(t, "OUTCOME_SESSION_EXPIRED", sealed.body["outcome"], "%v", sealed.body)
	assert.Contains(t, sealed.body["detail"], "not proved")
	assert.NotContains(t, sealed.body, "frame")
	opened := reader.post(openFrame, fields{"sessionId": id, "frame": demoFrame})
	assert.Equal(t, "OUTCOME_SESSION_EXPIRED", opened.body["outcome"], "%v", opened.body)
}
