package opencryptoki

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	testPIN   = "pin-1234"
	testSOPIN = "so-56789"
)

// listing is what "pkcsconf -t" prints of one token.
func listing(number int, label, model, flags string) string {
	return fmt.Sprintf("Token #%d Info:\n\tLabel: %-32s\n\tManufacturer: IBM Corp.\n\tModel: %s     \n\tFlags: 0x44D (%s)\n\tTime: 00:28:00\n",
		number, label, model, flags)
}

const (
	factoryFlags = "RNG|LOGIN_REQUIRED|CLOCK_ON_TOKEN|USER_PIN_TO_BE_CHANGED|SO_PIN_TO_BE_CHANGED|"
	readyFlags   = "RNG|LOGIN_REQUIRED|USER_PIN_INITIALIZED|CLOCK_ON_TOKEN|TOKEN_INITIALIZED|"
)

// standIn puts a script in the place of the tool. With -t it prints before, and after once it ran with -u.
func standIn(t *testing.T, before, after, script string) (seen string) {
	t.Helper()
	bin := t.TempDir()
	seen = filepath.Join(bin, "seen")
	for name, text := range map[string]string{"before": before, "after": after} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(text), 0o600))
	}
	whole := "#!/bin/sh\ncd " + bin + "\ncase \"$*\" in\n-t) cat before; exit 0;;\n*-u) cp after before;;\nesac\n" + script + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, tool), []byte(whole), 0o700))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return seen
}

// The PINs are nowhere in the tool's arguments or environment, and answer its questions in their order.
func TestInitPassesNoPINByArgument(t *testing.T) {
	before := listing(0, "IBM ICA", "IBM ICA", factoryFlags) + listing(1, "taken", softToken, readyFlags) +
		listing(2, "IBM OS PKCS#11", softToken, factoryFlags)
	after := listing(1, "taken", softToken, readyFlags) + listing(2, "dev", softToken, readyFlags)
	seen := standIn(t, before, after, `{ echo "ran $*"; env; } >>seen; while read -r l; do echo "typed $l" >>seen; done`)
	token, err := Init(t.Context(), "dev", testPIN, testSOPIN)
	require.NoError(t, err)
	assert.Equal(t, "dev", token.Label)
	assert.Equal(t, 2, token.Slot)
	assert.FileExists(t, token.Module)

	out, err := os.ReadFile(seen)
	require.NoError(t, err)
	var ran, typed []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if answer, is := strings.CutPrefix(line, "typed "); is {
			typed = append(typed, answer)
			continue
		}
		for _, pin := range []string{testPIN, testSOPIN} {
			assert.NotContains(t, line, pin)
		}
		if command, is := strings.CutPrefix(line, "ran "); is {
			ran = append(ran, command)
		}
	}
	assert.Equal(t, []string{"-c 2 -I", "-c 2 -P", "-c 2 -u"}, ran)
	assert.Equal(t, []string{factorySOPIN, "dev", factorySOPIN, testSOPIN, testSOPIN, testSOPIN, testPIN, testPIN}, typed)
}

// A failure is seen whatever the tool's exit status, and is told without what was typed.
func TestInitReportsTheToolsFailure(t *testing.T) {
	before, after := listing(0, "IBM OS PKCS#11", softToken, factoryFlags), listing(0, "dev", softToken, readyFlags)
	for _, c := range []struct{ name, after, script, want string }{
		{"status 0", after, "echo 'Enter the SO PIN: '; echo 'Error setting PIN: 0xA2 (CKR_PIN_LEN_RANGE)'", "CKR_PIN_LEN_RANGE"},
		{"after a question", after, "printf 'Enter a unique token label: Incorrect PIN Entered.'; exit 160", "Incorrect PIN"},
		{"silent", after, "exit 3", "exit status 3"},
		{"nothing done", before, "true", "not initialized"},
		{"another label", listing(0, "other", softToken, readyFlags), "true", "not initialized"},
		{"a factory PIN left", listing(0, "dev", softToken, readyFlags+"SO_PIN_TO_BE_CHANGED|"), "true", "not initialized"},
	} {
		t.Run(c.name, func(t *testing.T) {
			standIn(t, before, c.after, c.script)
			_, err := Init(t.Context(), "dev", testPIN, testSOPIN)
			require.ErrorContains(t, err, c.want)
			for _, pin := range []string{testPIN, testSOPIN} {
				assert.NotContains(t, err.Error(), pin)
			}
		})
	}
}

// A token that somebody has is never initialized anew.
func TestInitLeavesOthersTokensAlone(t *testing.T) {
	seen := standIn(t, listing(0, "taken", softToken, readyFlags)+listing(1, "IBM TPM", "TPM v1.1 Token", factoryFlags), "", "echo ran >>seen")
	_, err := Init(t.Context(), "dev", testPIN, testSOPIN)
	require.ErrorContains(t, err, "none of 2 tokens")
	assert.NoFileExists(t, seen)
}

func TestInitRefusesWhatItCannotSet(t *testing.T) {
	seen := standIn(t, listing(0, "IBM OS PKCS#11", softToken, factoryFlags), "", "echo ran >>seen")
	for _, c := range []struct{ name, label, pin, soPIN, message string }{
		{"no label", "", testPIN, testSOPIN, "label"},
		{"long label", strings.Repeat("l", 33), testPIN, testSOPIN, "label"},
		{"label with a space behind", "dev ", testPIN, testSOPIN, "label"},
		{"short pin", "dev", "123", testSOPIN, "pin"},
		{"long pin", "dev", "123456789", testSOPIN, "pin"},
		{"pin with an end of line", "dev", "1234\n567", testSOPIN, "pin"},
		{"the factory's pin", "dev", factoryPIN, testSOPIN, "every new token"},
		{"long so pin", "dev", testPIN, "123456789", "so pin"},
		{"the factory's so pin", "dev", testPIN, factorySOPIN, "every new token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Init(t.Context(), c.label, c.pin, c.soPIN)
			require.ErrorContains(t, err, c.message)
			for _, pin := range []string{c.pin, c.soPIN} {
				assert.NotContains(t, err.Error(), pin)
			}
		})
	}
	assert.NoFileExists(t, seen)
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.so"), filepath.Join(dir, "second.so")
	require.NoError(t, os.WriteFile(second, nil, 0o600))
	path, err := find(first, "", second)
	require.NoError(t, err)
	assert.Equal(t, second, path)
	_, err = find("", filepath.Join(dir, "none.so"))
	require.ErrorIs(t, err, ErrNotInstalled)
	_, err = find(dir) // a directory is no library
	require.ErrorIs(t, err, ErrNotInstalled)
}

// Outside a room, Furnish would hide the machine's own tokens.
func TestFurnishRefusesOutsideARoom(t *testing.T) {
	require.False(t, InRoom())
	require.ErrorContains(t, Furnish(), "no room")
	here, err := os.Readlink(mountNamespace)
	require.NoError(t, err)
	t.Setenv(roomVariable, here) // as a process would have it that was started as one in a room, and is in none
	require.False(t, InRoom())
	require.ErrorContains(t, Furnish(), "no room")
}
