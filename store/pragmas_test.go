package store

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPragmas: every connection synchronises each commit to the disk. No other test can tell: the kernel keeps what a killed
// process wrote, and only a loss of power would not.
func TestPragmas(t *testing.T) {
	for _, options := range []string{"_txlock=immediate" + writerPragmas, "mode=rwc"} {
		db, err := open(filepath.Join(t.TempDir(), "state.db"), options)
		require.NoError(t, err)
		for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "busy_timeout": "2000"} {
			var value string
			require.NoError(t, db.QueryRow(`PRAGMA `+pragma).Scan(&value))
			assert.Equal(t, want, value, pragma)
		}
		require.NoError(t, db.Close())
	}
}
