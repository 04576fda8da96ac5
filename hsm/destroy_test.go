package hsm

import (
	"context"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// A key is destroyed when the last Lend of it is over, and a caller who does not wait that long finds it gone on with later.
func TestDestroyWaitsForLends(t *testing.T) {
	ctx := context.Background()
	token, control, _ := faulty(t, nil)
	for _, boundary := range allBoundaries {
		spec, _, err := token.GenerateMaster(ctx, newSpec(boundary.String()+"/1", keyderive.KindLoad, suite.TDES, boundary), WithoutBackup())
		require.NoError(t, err)
		key := keyOf(t, token, spec.Label)
		macOf(t, key)
		inside, leave := make(chan struct{}), make(chan struct{})
		lent := make(chan error, 1)
		go func() {
			lent <- key.Lend(ctx, demoPath, func(unit keyderive.Unit) error {
				close(inside)
				<-leave
				_, err := unit.Derive([16]byte{1}, keyderive.ToDerive) // the key is still there
				return err
			})
		}()
		<-inside
		short, cancel := context.WithCancel(ctx)
		waits := make(chan error, 1)
		go func() { waits <- token.DestroyMaster(short, spec.Label, spec.KCV) }()
		require.Eventually(t, func() bool { return !token.configured(spec) }, patience, tick)
		_, err = sessionMAC(key, demoPath)
		assert.ErrorIs(t, err, ErrKeyNotFound, "a key that is leaving is lent no more")
		cancel()
		assert.ErrorIs(t, <-waits, context.Canceled)
		go func() { waits <- token.DestroyMaster(ctx, spec.Label, spec.KCV) }()
		close(leave)
		assert.NoError(t, <-lent)
		assert.NoError(t, <-waits)
		assert.ErrorIs(t, token.DestroyMaster(ctx, spec.Label, spec.KCV), ErrKeyNotFound)
	}
	assert.Equal(t, uint64(1), token.Stats().Generation, "no call met a key that was gone")
	rulesKept(t, control)
}

// Keys are made and destroyed under traffic on others, and under their own label anew.
func TestMastersComeAndGoUnderTraffic(t *testing.T) {
	ctx := context.Background()
	token, control, keys := faulty(t, nil)
	under := importBackup(t, token)
	stop, good := traffic(t, keys, 6)
	for range 3 {
		for _, boundary := range allBoundaries {
			spec, _, err := token.GenerateMaster(ctx, newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, boundary), under)
			require.NoError(t, err)
			key := keyOf(t, token, spec.Label)
			stopIts := lendUntil(t, key)
			macOf(t, key)
			require.NoError(t, token.DestroyMaster(ctx, spec.Label, spec.KCV))
			stopIts()
			next, _, err := token.GenerateMaster(ctx, newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, boundary), under)
			require.NoError(t, err)
			_, err = sessionMAC(key, demoPath)
			assert.ErrorIs(t, err, ErrKeyNotFound, "a Key is not the next one of its label")
			require.NoError(t, token.DestroyMaster(ctx, next.Label, next.KCV))
		}
	}
	stop()
	assert.Positive(t, good.Load())
	assert.Equal(t, uint64(1), token.Stats().Generation)
	rulesKept(t, control)
}

// lendUntil uses a key that may be destroyed meanwhile.
func lendUntil(t *testing.T, key *Key) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for !closed(end) {
			if _, err := sessionMAC(key, demoPath); err != nil {
				assert.ErrorIs(t, err, ErrKeyNotFound)
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// A recovery finds what was made, restored and adopted while the process ran, and nothing of what was destroyed.
func TestARecoveryKnowsWhatCameAndWent(t *testing.T) {
	ctx := context.Background()
	token, control, keys := faulty(t, nil)
	under := importBackup(t, token)
	want := map[string]keyderive.MAC{}
	generate := func(label string, boundary keyderive.Boundary) (KeySpec, Wrapped) {
		spec, wrapped, err := token.GenerateMaster(ctx, newSpec(label, keyderive.KindLoad, suite.TDES, boundary), under)
		require.NoError(t, err)
		want[label] = macOf(t, keyOf(t, token, label))
		return spec, wrapped
	}
	generate("made", keyderive.BoundaryToken)
	generate("made sealed", keyderive.BoundaryProcess)
	restored, wrapped := generate("restored", keyderive.BoundaryCard)
	require.NoError(t, token.DestroyMaster(ctx, restored.Label, restored.KCV))
	require.NoError(t, token.RestoreMaster(ctx, restored, escrowed(t), wrapped))
	createRaw(t, token, rawKey("adopted", bytesOf(t, loadMaster), nil))
	require.NoError(t, token.Adopt(ctx, specOf(t, "adopted", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)))
	want["adopted"] = macOf(t, keyOf(t, token, "adopted"))
	gone, _ := generate("gone", keyderive.BoundaryToken)
	_, err := token.Exposure(ctx, gone.Label)
	require.NoError(t, err)
	require.NoError(t, token.DestroyMaster(ctx, gone.Label, gone.KCV))
	delete(want, "gone")
	assert.Empty(t, token.Findings(), "what Exposure found goes with the key")

	for _, lose := range []func(){control.LoseSessions, func() { control.RemoveToken(100 * time.Millisecond) }} {
		generation := token.Stats().Generation
		lose()
		require.Eventually(t, func() bool { return token.Ready(ctx) == nil && token.Stats().Generation > generation }, patience, tick)
		for label, mac := range want {
			assert.Equal(t, mac, macOf(t, keyOf(t, token, label)), label)
		}
		_, err := token.Key("gone")
		assert.ErrorIs(t, err, ErrKeyNotFound)
		assert.Zero(t, token.Stats().KeysFailed)
	}
	contractComputes(t, suite.TDES, keys[0])
}

// A generation that is being made while a key is destroyed does not begin with it.
func TestAGenerationBeginsWithoutWhatWasDestroyed(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	spec := specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	importKey(t, token, spec, loadMaster)
	current, err := token.generation()
	require.NoError(t, err)
	next := &generation{token: token, number: current.number + 1, entries: map[string]*entry{"load": {spec: spec}, "gone": {spec: spec}}}
	require.Empty(t, token.publish(next))
	token.current.Store(current)
	token.last.Store(current)
	assert.Contains(t, next.entries, "load")
	assert.NotContains(t, next.entries, "gone")
}

// AbandonMaster takes away what nobody can say the check value of, and no other object of the label.
func TestAbandonMaster(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	before := objects(t, token)
	mine, theirs := newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken), newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken)
	for _, spec := range []KeySpec{mine, theirs} {
		createRaw(t, token, rawKey(spec.Label, bytesOf(t, loadMaster), map[uint]any{pkcs11.CKA_DERIVE: false, pkcs11.CKA_ID: spec.ID[:]}))
	}
	assert.ErrorContains(t, token.AbandonMaster(ctx, mine.Label, ObjectID{}), "id")
	assert.ErrorIs(t, token.AbandonMaster(ctx, "gd/load/2", mine.ID), ErrKeyNotFound)
	assert.ErrorContains(t, token.AbandonMaster(ctx, kekLabel, mine.ID), "reserved")
	assert.ErrorIs(t, token.DestroyMaster(ctx, mine.Label, loadKCV(t)), ErrAmbiguous)
	require.NoError(t, token.AbandonMaster(ctx, mine.Label, mine.ID))
	assert.ErrorIs(t, token.AbandonMaster(ctx, mine.Label, mine.ID), ErrKeyNotFound)
	assert.Equal(t, before+1, objects(t, token), "the other one stays")
	assert.ErrorIs(t, token.DestroyMaster(ctx, theirs.Label, loadKCV(t)), ErrAttributes)
	require.NoError(t, token.AbandonMaster(ctx, theirs.Label, theirs.ID))

	spec, _, err := token.GenerateMaster(ctx, newSpec("sealed", keyderive.KindLoad, suite.SM4, keyderive.BoundaryProcess), WithoutBackup())
	require.NoError(t, err)
	assert.ErrorIs(t, token.AbandonMaster(ctx, spec.Label, mine.ID), ErrKeyNotFound)
}

func loadKCV(t testing.TB) kcv.Value {
	t.Helper()
	return specOf(t, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster).KCV
}
