package sealer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/sealer"
	"github.com/pursekeeper/pursekeeper/store"
)

const (
	childVariable  = "PURSEKEEPER_SEALER_CHILD"
	roundsVariable = "PURSEKEEPER_SEALER_KILLS"
)

// child records without pause and seals as fast as it can, until it is killed.
func child(p place) error {
	ctx := context.Background()
	s, err := store.OpenSQLite(ctx, p.database())
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		random := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
		for {
			if err := record(ctx, s, 1+random.IntN(90)); err != nil {
				failed <- err
			}
		}
	}()
	c := config(p, s, &alarms{})
	c.Alarm = func(e audit.Event) { failed <- fmt.Errorf("alarm %s", e) }
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	go sealer.New(c).Run(ctx)
	fmt.Println("seals")
	return <-failed
}

// A sealer that is killed at any moment, again and again: the log is always valid, goes on from every checkpoint that was seen, and
// is what the database has; in the end all of it is sealed. PURSEKEEPER_SEALER_KILLS asks for more kills than the short form.
func TestKilledSealer(t *testing.T) {
	kills := 20
	if text := os.Getenv(roundsVariable); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	p := place(t.TempDir())
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	var saved []byte
	var size, grew uint64
	for kill := range kills {
		after := time.Duration(random.Int64N(int64(250 * time.Millisecond)))
		seals := kill%5 != 4
		killed(t, p, seals, func() {
			if seals && kill%2 == 0 { // however slow the machine is, half of them are killed after a checkpoint, or in the next one
				grown := func() bool { return !bytes.Equal(checkpoint(t, p.folder()), saved) }
				require.Eventually(t, grown, 20*time.Second, time.Millisecond)
				after /= 8
			}
			time.Sleep(after)
		})
		s, err := store.OpenSQLite(t.Context(), p.database())
		require.NoError(t, err)
		if len(checkpoint(t, p.folder())) > 0 {
			now := holds(t, p, s, saved)
			require.GreaterOrEqual(t, now, size)
			if now > size {
				grew++
			}
			size, saved = now, checkpoint(t, p.folder())
		}
		require.NoError(t, s.Close())
	}
	assert.GreaterOrEqual(t, grew, uint64(kills/3))
	s := p.open(t)
	status := once(t, config(p, s, &alarms{}))
	require.NoError(t, status.Err)
	require.Zero(t, status.Unsealed())
	assert.Equal(t, status.Entries, holds(t, p, s, saved))
	t.Logf("%d kills, %d entries", kills, status.Entries)
}

// killed runs a child and kills it when wait returns, which is called once it began to seal, or was started.
func killed(t *testing.T, p place, seals bool, wait func()) {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), childVariable+"="+string(p))
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaint strings.Builder
	c.Stderr = &complaint
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	if seals {
		_, err := io.ReadFull(out, make([]byte, len("seals\n")))
		require.NoError(t, err)
	}
	wait()
	require.NoError(t, c.Process.Kill())
	_ = c.Wait() // by the signal
	require.Equal(t, -1, c.ProcessState.ExitCode(), complaint.String())
	require.Empty(t, complaint.String())
}
