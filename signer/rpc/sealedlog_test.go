package rpc

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/sealer"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
	"github.com/pursekeeper/pursekeeper/signer"
)

// sealedLog is a world's sealed record, as the binary shows it; nothing is in it before seal.
type sealedLog struct {
	verifier.Log
	signer note.Signer
	text   string
	hold   chan struct{} // when not nil, Each waits until it is closed, or ctx ends
	inside atomic.Int32  // calls of Each that have begun and not ended
}

func newSealedLog(t testing.TB) *sealedLog {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, "log.example/rpc")
	require.NoError(t, err)
	l := &sealedLog{text: public}
	l.signer, err = note.NewSigner(private)
	require.NoError(t, err)
	l.Key, err = note.NewVerifier(public)
	require.NoError(t, err)
	l.Folder = tiles.Folder(filepath.Join(t.TempDir(), "audit"))
	return l
}

func (l *sealedLog) Checkpoint(context.Context) (signer.Checkpoint, error) {
	signed, c, err := l.Log.Checkpoint()
	if errors.Is(err, verifier.ErrNoCheckpoint) {
		return signer.Checkpoint{}, nil
	}
	return signer.Checkpoint{Signed: signed, Size: c.Size, Key: l.text}, err
}

func (l *sealedLog) Each(ctx context.Context, from, size uint64, yield func(uint64, []byte, audit.Entry) error) error {
	l.inside.Add(1)
	defer l.inside.Add(-1)
	if l.hold != nil {
		select {
		case <-l.hold:
		case <-ctx.Done():
		}
	}
	return l.Log.Each(ctx, from, size, yield)
}

func (l *sealedLog) Prove(_ context.Context, index uint64) ([]byte, string, error) {
	p, err := verifier.Prove(l.Folder, l.Key, index)
	if err != nil {
		return nil, "", err
	}
	return p.Entry, p.String(), nil
}

// seal seals all that is recorded.
func (w *world) seal() {
	w.t.Helper()
	s := sealer.New(sealer.Config{
		Folder: w.log.Folder, Holder: "test", Record: w.store, Log: slog.New(slog.DiscardHandler), Alarm: func(audit.Event) {},
		Key: func(context.Context) (note.Signer, note.Verifier, error) { return w.log.signer, w.log.Key, nil },
	})
	ctx, stop := context.WithCancel(w.t.Context())
	stop()
	s.Run(ctx)
	require.NoError(w.t, s.Status().Err)
	require.Zero(w.t, s.Status().Unsealed())
}
