package archive_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit/archive"
)

// An archive that is older than the saved checkpoint bounds what may go, and must be of the same log.
func TestPruneWithAnOlderArchive(t *testing.T) {
	w := newWorld(t, 1100)
	w.copy()
	w.add(1000)
	config := w.config(1 << 40)
	p, err := archive.Prune(t.Context(), config)
	require.NoError(t, err)
	assert.EqualValues(t, 1100, p.Checkpoint.Size)
	assert.EqualValues(t, 512, p.Before, "of 1100 the archive has four full bundles")

	other := newWorld(t, 0)
	other.epoch = other.epoch.Add(time.Hour)
	other.add(1200)
	other.copy()
	config.Archive = other.archive
	_, err = archive.Prune(t.Context(), config)
	require.ErrorContains(t, err, "the archive is of another history")
	first, _ := w.kept()
	assert.EqualValues(t, 512, first)
}

// A clock that was set back often keeps no entry in the database.
func TestArchiveAndPruneAfterManyStepsOfTheClock(t *testing.T) {
	w := newWorld(t, 1000)
	for range 30 {
		w.epoch = w.epoch.Add(-time.Hour)
		w.add(10)
	}
	w.copy()
	p, err := archive.Prune(t.Context(), w.config(600))
	require.NoError(t, err)
	assert.EqualValues(t, 512, p.Before)
}
