package rpc

import (
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer"
)

const (
	signCommand      = pursekeeperv1connect.SignerServiceSignCommandProcedure
	authenticateCard = pursekeeperv1connect.SignerServiceAuthenticateCardProcedure
)

// The PINs of these tests: nothing but a card may see their digits.
const (
	testPIN = "834905771264"
	newPIN  = "71409628351"
)

func parsePIN(t *testing.T, digits string) purse.PIN {
	t.Helper()
	pin, err := purse.ParsePIN(digits)
	require.NoError(t, err)
	return pin
}

// desk is an issuer's desk: a card in its reader, and the platform that signs its commands.
type desk struct {
	reader
	tokenFlavour
	platform caller
	request  fields
}

func newDesk(t *testing.T, platform caller, f tokenFlavour, serial string) desk {
	t.Helper()
	card := f.personalise(t, serial, func(o *softcard.Options) {
		o.PIN = parsePIN(t, testPIN)
		o.Binaries = map[byte][]byte{0x16: make([]byte, 20)}
		o.Records = map[byte][][]byte{0x17: {make([]byte, 8)}}
	})
	return desk{card, f, platform, fields{"keySet": f.keySet(), "cardSerial": serial}}
}

// sign asks for a command under a fresh challenge; RELOAD PIN has none.
func (d desk) sign(command string, more fields) reply {
	d.t.Helper()
	body := d.request.with("command", "COMMAND_"+command)
	maps.Copy(body, more)
	if command != "RELOAD_PIN" {
		body["challenge"] = d.tells(purse.Challenge(d.flavour.profile))
	}
	r := d.platform.post(signCommand, body)
	require.Equal(d.t, "OUTCOME_APPROVED", r.body["outcome"], "%s: %v", command, r.body)
	return r
}

// does has the card refuse the command with a wrong bit, and take the next.
func (d desk) does(command string, kind keyderive.Kind, more fields) (apdu string) {
	d.t.Helper()
	wrong := d.sign(command, more)
	d.refuses(flipped(d.t, wrong.text("command"), len(command)%32), purse.SWSecureMAC)
	right := d.sign(command, more)
	assert.Equal(d.t, "BOUNDARY_"+d.of(kind).String(), right.body["boundary"])
	key := right.body["key"].(map[string]any)
	assert.Equal(d.t, kind.String(), key["kind"])
	assert.Len(d.t, key["kcv"], 6)
	tell(d.t, d.card, right.text("command"))
	return right.text("command")
}

// blockPIN uses up the tries of the card's PIN.
func (d desk) blockPIN() {
	d.t.Helper()
	wrong, err := purse.VerifyPIN(parsePIN(d.t, "0000"))
	require.NoError(d.t, err)
	for tries := 2; tries >= 0; tries-- {
		d.refuses(wrong.Hex(), purse.SWPINTries(tries))
	}
	d.refuses(wrong.Hex(), purse.SWBlocked)
}

func (d desk) verify(digits string) {
	d.t.Helper()
	right, err := purse.VerifyPIN(parsePIN(d.t, digits))
	require.NoError(d.t, err)
	d.tells(right)
}

// everyCommand is the whole of EPURSE.md §6 but WRITE KEY and CARD BLOCK on one card; the last command ends it.
func (d desk) everyCommand() {
	t, f := d.t, d.flavour
	d.does("UPDATE_BINARY", keyderive.KindMaintenance, fields{"p1": "96", "p2": "04", "data": "00112233 4455"})
	read := purse.APDU{CLA: 0x00, INS: 0xB0, P1: 0x96, P2: 0x00, Expect: 20}
	assert.Equal(t, "00000000001122334455", d.tells(read)[:20])
	d.does("UPDATE_RECORD", keyderive.KindMaintenance, fields{"p1": "01", "p2": "BC", "data": "A1B2C3D4E5F60718"})

	d.blockPIN()
	unblock := fields{"pin": testPIN}
	if !f.profile.PINUnblockEncrypted() {
		unblock = fields{}
	}
	d.does("PIN_UNBLOCK", keyderive.KindPINUnblock, unblock)
	d.verify(testPIN)
	d.does("RELOAD_PIN", keyderive.KindPINReload, fields{"pin": newPIN})
	d.verify(newPIN)

	d.does("APPLICATION_BLOCK", keyderive.KindMaintenance, nil)
	balance, err := purse.QueryBalance(purse.EP)
	require.NoError(t, err)
	d.refuses(balance.Hex(), purse.SWFunction)
	d.does("APPLICATION_UNBLOCK", keyderive.KindMaintenance, nil)
	d.tells(balance)
	apdu := d.does("APPLICATION_BLOCK", keyderive.KindMaintenance, fields{"permanent": true})
	assert.Equal(t, "01", apdu[6:8])
	d.refuses(balance.Hex(), purse.SWLocked)
}

// oddFlavours are both suites with every value of a card profile that the shipped ones leave out.
func oddFlavours(t testing.TB) (all []tokenFlavour) {
	t.Helper()
	for _, text := range []string{
		"{name: odd, smChallenge: 8, encryptionPadding: always, updateData: encrypted, reloadPinMac: headerAndPin, pinUnblock: macOnly, externalAuthentication: whole}",
		"{name: even, updateData: encrypted, pinUnblock: keyId, pinUnblockKeyId: \"07\"}",
	} {
		profile, err := purse.ParseProfile([]byte(text))
		require.NoError(t, err)
		for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			all = append(all, tokenFlavour{flavour{alg, profile}, keyderive.BoundaryProcess})
		}
	}
	return all
}

func withOddFlavours(t testing.TB) func(*setup) {
	return func(s *setup) {
		for _, f := range oddFlavours(t) {
			set := f.set(t)
			set.Name = f.keySet()
			s.keySets = append(s.keySets, set)
			for i := range s.clients {
				s.clients[i].KeySets = append(s.clients[i].KeySets, f.keySet())
			}
		}
	}
}

// Every command and both authentications, with every profile, in both suites, at every boundary that SoftHSM has, over mTLS: the
// card takes each, and refuses each with one wrong bit.
func TestEveryCommand(t *testing.T) {
	w := newWorld(t, withTokens(t), withOddFlavours(t))
	platform := w.as("platform")
	for i, f := range append(tokenFlavours(t), oddFlavours(t)...) {
		t.Run(f.keySet(), func(t *testing.T) {
			d := newDesk(t, platform, f, fmt.Sprintf("31052280000%05d", i))
			d.authenticates()
			d.everyCommand()

			blocked := newDesk(t, platform, f, fmt.Sprintf("31052280001%05d", i))
			blocked.does("CARD_BLOCK", keyderive.KindMaintenance, nil)
			blocked.refuses(purse.Challenge(f.flavour.profile).Hex(), purse.SWFunction)
		})
	}
}

// authenticates proves the host to the card and the card to the host.
func (d desk) authenticates() {
	t := d.t
	for _, length := range []int{4, 8} {
		challenge := d.tells(purse.APDU{INS: 0x84, Expect: length})
		external := d.platform.post(authenticateCard, d.request.with("direction", "DIRECTION_EXTERNAL").with("challenge", challenge))
		require.Equal(t, "OUTCOME_APPROVED", external.body["outcome"], "%v", external.body)
		assert.Equal(t, "control", external.body["key"].(map[string]any)["kind"])
		assert.Equal(t, "BOUNDARY_"+d.of(keyderive.KindControl).String(), external.body["boundary"])
		assert.Contains(t, external.text("command"), external.text("cryptogram"))
		if length == 8 {
			d.refuses(flipped(t, external.text("command"), 5), purse.SWPINTries(2))
			challenge = d.tells(purse.APDU{INS: 0x84, Expect: length})
			external = d.platform.post(authenticateCard, d.request.with("direction", "DIRECTION_EXTERNAL").with("challenge", challenge).with("keyId", "00"))
		}
		tell(t, d.card, external.text("command"))
	}
	challenge := [8]byte{0xA1, 2, 3, 4, 5, 6, 7, byte(len(d.keySet()))}
	answer := d.tells(purse.InternalAuthenticate(d.flavour.profile, d.alg, 0, challenge))
	internal := d.request.with("direction", "DIRECTION_INTERNAL").with("challenge", hex.EncodeToString(challenge[:])).with("cryptogram", answer)
	right := d.platform.post(authenticateCard, internal)
	assert.Equal(t, "OUTCOME_VERIFIED", right.body["outcome"], "%v", right.body)
	assert.Equal(t, "internal-auth", right.body["key"].(map[string]any)["kind"])
	for bit := range 4 * len(answer) {
		wrong := d.platform.post(authenticateCard, internal.with("cryptogram", flipped(t, answer, bit)))
		require.Equal(t, "OUTCOME_MAC_MISMATCH", wrong.body["outcome"], "bit %d: %v", bit, wrong.body)
		for _, none := range []string{"cryptogram", "command"} {
			require.NotContains(t, wrong.body, none)
		}
	}
	other := d.platform.post(authenticateCard, internal.with("challenge", "0000000000000000"))
	assert.Equal(t, "OUTCOME_MAC_MISMATCH", other.body["outcome"])
}

// No PIN, clear or encrypted, is in the log, the record, the metrics or an error; the commands without one are in the record whole.
func TestNoPINIsLeftBehind(t *testing.T) {
	w := newWorld(t, withTokens(t), withOddFlavours(t))
	platform := w.as("platform")
	var messages []string
	var pins, commands []string
	for i, f := range append(tokenFlavours(t), oddFlavours(t)...) {
		d := newDesk(t, platform, f, fmt.Sprintf("31052280000%05d", i))
		if f.profile.PINUnblockEncrypted() {
			apdu := d.sign("PIN_UNBLOCK", fields{"pin": testPIN}).text("command")
			pins = append(pins, apdu, apdu[10:len(apdu)-8]) // the command, and its encrypted block alone
		} else {
			commands = append(commands, d.sign("PIN_UNBLOCK", nil).text("command"))
		}
		reload := d.sign("RELOAD_PIN", fields{"pin": newPIN}).text("command")
		require.Contains(t, reload, newPIN)
		pins = append(pins, reload, reload[len(reload)-8:])
		commands = append(commands, d.sign("CARD_BLOCK", nil).text("command"))
		for _, bad := range []fields{{"pin": newPIN + "A"}, {"pin": "8"}, {"pin": testPIN + "5"}, {"pin": 834905771264}, {"pin": testPIN, "p1": "00"}, {"pin": testPIN, "keySet": "nowhere"}} {
			body := d.request.with("command", "COMMAND_RELOAD_PIN")
			maps.Copy(body, bad)
			r := platform.post(signCommand, body)
			require.NotEmpty(t, r.code())
			messages = append(messages, r.message())
		}
	}
	require.NoError(t, w.end())
	gathered, err := w.registry.Gather()
	require.NoError(t, err)
	var record strings.Builder
	for _, e := range w.entries() {
		line, err := e.Encode()
		require.NoError(t, err)
		record.Write(append(line, '\n'))
	}
	for where, text := range map[string]string{
		"log": w.logs.String(), "record": record.String(), "messages": strings.Join(messages, "\n"), "metrics": fmt.Sprint(gathered),
	} {
		require.NotEmpty(t, text)
		upper := strings.ToUpper(text)
		for _, digits := range []string{testPIN, newPIN, testPIN[:8], newPIN[:8]} {
			assert.NotContains(t, upper, digits, where)
		}
		for _, block := range pins {
			assert.NotContains(t, upper, block, where)
		}
	}
	for _, apdu := range commands {
		assert.Contains(t, record.String(), `"command":"`+apdu+`"`)
	}
	assert.Contains(t, record.String(), `"inputs":{"command":"RELOAD PIN"}`)
	assert.Contains(t, record.String(), "the command carries a PIN and is not in the record")
}

// A card is signed for with one version: the one asked for, or the newest that is active.
func TestVersionsOfACommandKey(t *testing.T) {
	w := newWorld(t, withFlavours(t), func(s *setup) {
		set := &s.keySets[len(s.keySets)-1] // its keys are all of version 1
		for _, v := range set.Versions {
			if v.Kind == keyderive.KindMaintenance || v.Kind == keyderive.KindControl {
				for number, state := range map[int]custody.KeyState{3: custody.Active, 4: custody.Deactivated, 5: custody.Compromised, 6: custody.PreActive} {
					v.Number, v.State = number, state
					set.Versions = append(set.Versions, v)
				}
			}
		}
		for i := range set.Versions {
			if set.Versions[i].Kind == keyderive.KindInternalAuth {
				set.Versions[i].State = custody.Suspended
			}
		}
	})
	platform := w.as("platform")
	f := flavours(t)[len(flavours(t))-1]
	challenge := strings.Repeat("A1", f.profile.ChallengeLen())
	command := fields{"keySet": f.keySet(), "cardSerial": demoCard, "command": "COMMAND_CARD_BLOCK", "challenge": challenge}
	external := fields{"keySet": f.keySet(), "cardSerial": demoCard, "direction": "DIRECTION_EXTERNAL", "challenge": challenge}
	for _, c := range []struct {
		asked, used int
		outcome     string
	}{
		{0, 3, "OUTCOME_APPROVED"}, {1, 1, "OUTCOME_APPROVED"}, {3, 3, "OUTCOME_APPROVED"}, {2, 2, "OUTCOME_KEY_NOT_ACTIVE"},
		{4, 4, "OUTCOME_KEY_NOT_ACTIVE"}, {5, 5, "OUTCOME_KEY_NOT_ACTIVE"}, {6, 6, "OUTCOME_KEY_NOT_ACTIVE"},
	} {
		for method, body := range map[string]fields{signCommand: command, authenticateCard: external} {
			before := len(w.entries())
			r := platform.post(method, body.with("keyVersion", c.asked))
			assert.Equal(t, c.outcome, r.body["outcome"], "%v: %v", c, r.body)
			assert.EqualValues(t, c.used, r.body["key"].(map[string]any)["version"], "%v", c)
			assert.Equal(t, c.outcome == "OUTCOME_APPROVED", r.body["command"] != nil)
			entries := w.entries()[before:]
			require.Len(t, entries, 1)
			assert.Equal(t, c.used, entries[0].Key.Version)
			assert.Equal(t, fmt.Sprint(before), r.body["auditIndex"])
			assert.Equal(t, r.text("command"), entries[0].Command)
			if c.outcome == "OUTCOME_KEY_NOT_ACTIVE" {
				assert.Contains(t, r.text("detail"), " key has that version")
			}
		}
	}
	internal := external.with("direction", "DIRECTION_INTERNAL").with("challenge", "0011223344556677").with("cryptogram", "0011223344556677")
	none := platform.post(authenticateCard, internal)
	assert.Equal(t, "OUTCOME_KEY_NOT_ACTIVE", none.body["outcome"], "%v", none.body)
	assert.Equal(t, "no internal-auth key is active", none.body["detail"])
	assert.NotContains(t, none.body["key"], "version")
}

// Every command and direction of the API has its counterpart in the signer.
func TestNamesOfCommands(t *testing.T) {
	for number, name := range v1.Command_name {
		command := readCommand(v1.Command(number))
		if number == 0 {
			assert.Contains(t, command.String(), "invalid")
			continue
		}
		assert.Equal(t, strings.ReplaceAll(strings.TrimPrefix(name, "COMMAND_"), "_", " "), command.String())
	}
	seen := map[signer.Direction]bool{}
	for number := range v1.Direction_name {
		seen[readDirection(v1.Direction(number))] = true
	}
	assert.Len(t, seen, len(v1.Direction_name))
}
