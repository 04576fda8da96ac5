package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSecretsPrintAsRedacted(t *testing.T) {
	s := Copy([]byte("hunter2hunter2"))
	defer s.Wipe()
	type holder struct{ Key Bytes }
	type hider struct{ key Bytes }
	type deep struct{ in map[string][]hider }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%T"} {
		for _, value := range []any{s, &s, holder{s}, []Bytes{s}, hider{s}, &hider{s}, deep{map[string][]hider{"a": {{s}}}}} {
			out := fmt.Sprintf(verb, value)
			assert.NotContains(t, out, "hunter2", verb)
			assert.NotContains(t, strings.ToLower(out), "68756e74", verb)
			assert.NotContains(t, out, "104 117", verb)
		}
	}
	encoded, err := json.Marshal(holder{s})
	require.NoError(t, err)
	assert.JSONEq(t, `{"Key":"[redacted]"}`, string(encoded))

	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "key", s, "holder", holder{s})
	assert.NotContains(t, log.String(), "hunter2")
	assert.Contains(t, log.String(), "[redacted]")
}

func TestTakeZeroesItsSource(t *testing.T) {
	source := []byte{1, 2, 3}
	s := Take(source)
	assert.Equal(t, []byte{0, 0, 0}, source)
	assert.Equal(t, []byte{1, 2, 3}, s.Reveal("test"))
	s.Wipe()
	assert.Zero(t, s.Len())
	s.Wipe()
}

func TestWipeZeroesTheMemoryThatIsReused(t *testing.T) {
	s := Copy(bytes.Repeat([]byte{0xAA}, slotSize))
	mem := s.Reveal("test")
	s.Wipe()
	assert.Equal(t, make([]byte, slotSize), mem[:slotSize])
	assert.Equal(t, make([]byte, 20), New(20).Reveal("test"))
}

func TestEqual(t *testing.T) {
	assert.True(t, Copy([]byte("a")).Equal(Copy([]byte("a"))))
	assert.False(t, Copy([]byte("a")).Equal(Copy([]byte("b"))))
	assert.False(t, Copy([]byte("a")).Equal(Copy([]byte("ab"))))
	assert.True(t, Bytes{}.Equal(Bytes{}))
}

// The kernel's own account of the mapping: locked ("lo") and not dumped ("dd").
func TestSecretMemoryIsLockedAndNotDumped(t *testing.T) {
	for _, size := range []int{16, 9000} {
		s := New(size)
		flags := vmFlags(t, s.Reveal("test"))
		assert.Contains(t, flags, "lo")
		assert.Contains(t, flags, "dd")
		s.Wipe()
	}
}

func vmFlags(t *testing.T, mem []byte) []string {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	address := uint64(0)
	_, err = fmt.Sscanf(fmt.Sprintf("%p", &mem[0]), "0x%x", &address)
	require.NoError(t, err)
	inside := false
	for line := range strings.Lines(string(smaps)) {
		var from, to uint64
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= address && address < to
		}
		if flags, found := strings.CutPrefix(line, "VmFlags:"); found && inside {
			return strings.Fields(flags)
		}
	}
	t.Fatal("no mapping holds the secret")
	return nil
}
