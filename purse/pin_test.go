package purse_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/purse"
)

func TestPINsArePacked(t *testing.T) {
	for digits, want := range map[string]string{
		"12": "12", "123": "123F", "123456": "123456", "1234567": "1234567F", "123456789012": "123456789012", "00": "00",
	} {
		p := pin(t, digits)
		assert.Equal(t, want, upper(p.Reveal("test")))
		again, err := purse.ParsePackedPIN(p.Reveal("test"))
		require.NoError(t, err)
		assert.True(t, p.Equal(again))
	}
	assert.False(t, pin(t, "1234").Equal(pin(t, "1235")))
	assert.False(t, pin(t, "1234").Equal(purse.PIN{}))
	for _, digits := range []string{"", "1", "1234567890123", "12a4", "12 34", "１２"} {
		_, err := purse.ParsePIN(digits)
		require.Error(t, err, digits)
	}
	for _, packed := range []string{"", "1F23", "F1", "1A", "FF", "1F", "12FF", "12345678901234"} {
		_, err := purse.ParsePackedPIN(unhex(t, packed))
		require.Error(t, err, packed)
	}
}

// A PIN is nowhere: not in prints, not in errors, not in JSON, not inside another value whose fields fmt cannot call.
func TestPINsPrintAsRedacted(t *testing.T) {
	p := pin(t, "975310")
	type outside struct{ PIN purse.PIN }
	type hidden struct{ pin purse.PIN }
	for _, value := range []any{p, &p, outside{p}, hidden{p}, &hidden{p}, []purse.PIN{p}, purse.ReloadPIN{PIN: p}, purse.PINUnblock{PIN: p}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x"} {
			out := strings.ToLower(fmt.Sprintf(verb, value))
			for _, shown := range []string{"975310", "97 53 10", "151 83 16", "0x97, 0x53", `"\x97s`} {
				assert.NotContains(t, out, shown, verb)
			}
		}
	}
	assert.Equal(t, "[redacted]", p.String())
	encoded, err := json.Marshal(outside{p})
	require.NoError(t, err)
	assert.JSONEq(t, `{"PIN":"[redacted]"}`, string(encoded))
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "pin", p)
	assert.Contains(t, log.String(), "pin=[redacted]")

	_, err = purse.ParsePIN("97531x")
	require.EqualError(t, err, "pin: a character is not a digit")
	_, err = purse.ParsePIN("97531097531097")
	require.EqualError(t, err, "pin: wrong length, expected 2 to 12 digits")

	a, err := purse.VerifyPIN(p)
	require.NoError(t, err)
	assert.Equal(t, "0020000003975310", a.Hex())
	assert.Equal(t, "0020000003[redacted]", fmt.Sprintf("%v", a))
}

func TestWipedPINIsGoneEverywhere(t *testing.T) {
	p := pin(t, "123456")
	held := p
	digits := p.Reveal("test")
	p.Wipe()
	assert.Equal(t, []byte{0, 0, 0}, digits)
	assert.Empty(t, p.Reveal("test"))
	assert.Empty(t, held.Reveal("test"))
	p.Wipe()
	assert.Panics(t, func() { p.Reveal("") })
}
