package rpc

import (
	"strings"
	"testing"
)

// blockRequest, updateRequest and reloadRequest are good requests of commands.
func blockRequest() fields {
	return fields{"keySet": "3des-pboc-ep", "cardSerial": demoCard, "command": "COMMAND_CARD_BLOCK", "challenge": "A1B2C3D4"}
}

func updateRequest() fields {
	return blockRequest().with("command", "COMMAND_UPDATE_BINARY").with("p1", "96").with("p2", "00").with("data", "00")
}

func reloadRequest() fields {
	return blockRequest().with("command", "COMMAND_RELOAD_PIN").with("challenge", nil).with("pin", testPIN)
}

func unblockRequest() fields {
	return blockRequest().with("command", "COMMAND_PIN_UNBLOCK").with("pin", testPIN)
}

func externalRequest() fields {
	return fields{"keySet": "3des-pboc-ep", "cardSerial": demoCard, "direction": "DIRECTION_EXTERNAL", "challenge": "A1B2C3D4"}
}

func internalRequest() fields {
	return externalRequest().with("direction", "DIRECTION_INTERNAL").with("challenge", "A1B2C3D4A1B2C3D4").with("cryptogram", "0011223344556677")
}

// commandRefusals are malformed commands and authentications: what one field of a good one was changed to, and what is said of it.
func commandRefusals() (rows []refusal) {
	odd, encrypted := "3des-odd", strings.Repeat("00", 248)
	for _, c := range []struct {
		name    string
		method  string
		good    fields
		field   string
		value   any
		message string
	}{
		{"no command", signCommand, blockRequest(), "command", nil, "command: missing"},
		{"unspecified command", signCommand, blockRequest(), "command", "COMMAND_UNSPECIFIED", "command: missing"},
		{"WRITE KEY", signCommand, blockRequest(), "command", "COMMAND_WRITE_KEY", "command: not a value of type enum"},
		{"command 8", signCommand, blockRequest(), "command", 8, "command: 8 is not a number of Command"},
		{"no card", signCommand, blockRequest(), "cardSerial", nil, "cardSerial: 0 hex digits"},
		{"foreign issuer", signCommand, blockRequest(), "issuerId", "2000200020002000", "issuerId: is not the issuer factor"},
		{"version 256", signCommand, blockRequest(), "keyVersion", 256, "keyVersion: is 256, expected 0 to 255"},
		{"no challenge", signCommand, blockRequest(), "challenge", nil, "challenge: 0 bytes, expected 4"},
		{"challenge of another profile", signCommand, blockRequest(), "challenge", "A1B2C3D4A1B2C3D4", "challenge: 8 bytes, expected 4"},
		{"short challenge of a long one", signCommand, blockRequest().with("keySet", "3des-fmcos"), "challenge", "A1B2C3D4", "challenge: 4 bytes, expected 8"},
		{"challenge not hex", signCommand, blockRequest(), "challenge", "A1B2C3D?", "challenge: character 8: '?' is not a hex digit"},
		{"block with a PIN", signCommand, blockRequest(), "pin", testPIN, "pin: has no place in CARD BLOCK"},
		{"block with P1", signCommand, blockRequest(), "p1", "00", "p1: has no place in CARD BLOCK"},
		{"block with P2", signCommand, blockRequest(), "p2", "00", "p2: has no place in CARD BLOCK"},
		{"block with data", signCommand, blockRequest(), "data", "00", "data: has no place in CARD BLOCK"},
		{"permanent card block", signCommand, blockRequest(), "permanent", true, "permanent: has no place in CARD BLOCK"},
		{"permanent unblock", signCommand, blockRequest().with("command", "COMMAND_APPLICATION_UNBLOCK"), "permanent", true, "permanent: has no place in APPLICATION UNBLOCK"},
		{"reload with a challenge", signCommand, reloadRequest(), "challenge", "A1B2C3D4", "challenge: has no place in RELOAD PIN"},
		{"reload without a PIN", signCommand, reloadRequest(), "pin", nil, "pin: wrong length, expected 2 to 12 digits"},
		{"PIN of 1 digit", signCommand, reloadRequest(), "pin", "8", "pin: wrong length, expected 2 to 12 digits"},
		{"PIN of 13 digits", signCommand, reloadRequest(), "pin", testPIN + "1", "pin: wrong length, expected 2 to 12 digits"},
		{"PIN in hex", signCommand, reloadRequest(), "pin", "83490A", "pin: a character is not a digit"},
		{"PIN with a space", signCommand, unblockRequest(), "pin", "834 905", "pin: a character is not a digit"},
		{"PIN as a number", signCommand, reloadRequest(), "pin", 834905, "pin: not a value of type string"},
		{"unblock without a PIN", signCommand, unblockRequest(), "pin", nil, "pin: wrong length, expected 2 to 12 digits"},
		{"unblock with a PIN of 1 digit", signCommand, unblockRequest(), "pin", "8", "pin: wrong length, expected 2 to 12 digits"},
		{"unblock of a profile without a PIN", signCommand, unblockRequest().with("keySet", odd), "challenge", "A1B2C3D4A1B2C3D4", "pin: the card profile's PIN UNBLOCK carries none"},
		{"update without P1", signCommand, updateRequest(), "p1", nil, "p1: 0 bytes, expected 1"},
		{"update without P2", signCommand, updateRequest(), "p2", nil, "p2: 0 bytes, expected 1"},
		{"update with P1 of 2 bytes", signCommand, updateRequest(), "p1", "9600", "p1: 2 bytes, expected 1"},
		{"update without data", signCommand, updateRequest(), "data", nil, "data: missing: UPDATE BINARY needs it"},
		{"update with spaces for data", signCommand, updateRequest(), "data", "  ", "data: 0 bytes, expected 1 to 251"},
		{"update with too much", signCommand, updateRequest(), "data", strings.Repeat("00", 252), "data: 252 bytes, expected 1 to 251"},
		{"encrypted update with too much", signCommand, updateRequest().with("keySet", odd).with("challenge", "A1B2C3D4A1B2C3D4"), "data", encrypted, "data: 256 bytes as sent, expected at most 251"},
		{"update with a PIN", signCommand, updateRequest(), "pin", testPIN, "pin: has no place in UPDATE BINARY"},
		{"record with permanent", signCommand, updateRequest().with("command", "COMMAND_UPDATE_RECORD"), "permanent", true, "permanent: has no place in UPDATE RECORD"},
		{"no direction", authenticateCard, externalRequest(), "direction", nil, "direction: missing"},
		{"external with a cryptogram", authenticateCard, externalRequest(), "cryptogram", "0011223344556677", "cryptogram: has no place in EXTERNAL AUTHENTICATE"},
		{"external without a challenge", authenticateCard, externalRequest(), "challenge", nil, "challenge: 0 bytes, expected 4 to 8"},
		{"external of 5 bytes", authenticateCard, externalRequest(), "challenge", "A1B2C3D4A1", "challenge: 5 bytes, expected 4 or 8"},
		{"external of 9 bytes", authenticateCard, externalRequest(), "challenge", "A1B2C3D4A1B2C3D4A1", "challenge: 9 bytes, expected 4 to 8"},
		{"key id of 2 bytes", authenticateCard, externalRequest(), "keyId", "0001", "keyId: 2 bytes, expected 1"},
		{"version 256 of a control key", authenticateCard, externalRequest(), "keyVersion", 256, "keyVersion: is 256, expected 0 to 255"},
		{"authentication without a card", authenticateCard, internalRequest(), "cardSerial", nil, "cardSerial: 0 hex digits"},
		{"internal of 4 bytes", authenticateCard, internalRequest(), "challenge", "A1B2C3D4", "challenge: 4 bytes, expected 8"},
		{"internal without a cryptogram", authenticateCard, internalRequest(), "cryptogram", nil, "cryptogram: 0 bytes, expected 8"},
		{"internal of 16 bytes", authenticateCard, internalRequest(), "cryptogram", strings.Repeat("00", 16), "cryptogram: 16 bytes, expected 8"},
		{"whole block cut", authenticateCard, internalRequest(), "keySet", "sm4-odd", "cryptogram: 8 bytes, expected 16"},
	} {
		rows = append(rows, refusal{c.name, c.method, c.good.with(c.field, c.value), invalid, c.message})
	}
	return append(rows,
		refusal{"command of an unknown set", signCommand, blockRequest().with("keySet", "x"), "not_found", "keySet: is not known"},
		refusal{"authentication of an unknown set", authenticateCard, externalRequest().with("keySet", "x"), "not_found", "keySet: is not known"},
	)
}

func TestMalformedCommands(t *testing.T) {
	w := newWorld(t, withFlavours(t), withOddFlavours(t), func(s *setup) {
		for i := range s.keySets {
			switch s.keySets[i].Name {
			case "process-3des-odd":
				s.keySets[i].Name = "3des-odd"
			case "process-sm4-odd":
				s.keySets[i].Name = "sm4-odd"
			}
		}
		for i := range s.clients {
			s.clients[i].KeySets = append(s.clients[i].KeySets, "3des-odd", "sm4-odd")
		}
	})
	refuseAll(t, w, commandRefusals())
	for _, digits := range []string{testPIN, testPIN[:8], "834905", "83490A"} {
		if strings.Contains(w.logs.String(), `"`+digits) {
			t.Errorf("a PIN is in the log: %s", digits)
		}
	}
}
