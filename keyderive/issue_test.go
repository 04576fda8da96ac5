package keyderive

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// An issued key is the card key that every other use derives: what it encrypts is what Messaging encrypts.
func TestIssuedKeyIsTheCardKey(t *testing.T) {
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		key, value := memoryMaster(t, alg)
		defer value.Wipe()
		m, card := NewMaster(key, RootFirst(Factor{1})), Factor{2}
		block := bytes.Repeat([]byte{7}, 16)
		var want []byte
		require.NoError(t, m.WithCard(context.Background(), card, func(c Card) error {
			messaging, err := c.Messaging()
			require.NoError(t, err)
			want, err = messaging.Encrypt(block)
			return err
		}))
		issued, err := m.DangerousIssue(context.Background(), card)
		require.NoError(t, err)
		built := 0
		require.NoError(t, issued.Under(context.Background(), m, card, func(bytes KeyBytes, control Messaging) error {
			built++
			again, err := InMemory(alg, secret.Copy(bytes.Reveal("test")))
			require.NoError(t, err)
			got, err := control.Encrypt(block)
			require.NoError(t, err)
			assert.Equal(t, want, got, "the control key on loan")
			return again.Lend(context.Background(), Path{}, func(unit Unit) error {
				got, err := unit.ECB(block)
				assert.Equal(t, want, got, "the issued key")
				return err
			})
		}))
		assert.Equal(t, 1, built)
		issued.Wipe()
		err = issued.Under(context.Background(), m, card, func(KeyBytes, Messaging) error { built++; return nil })
		require.ErrorIs(t, err, errWiped)
		assert.Equal(t, 1, built)
	}
}

// A build that outlives its caller keeps the bytes until it returns, and no longer; one that begins after is refused.
func TestWipeWaitsForTheReader(t *testing.T) {
	key, value := memoryMaster(t, suite.TDES)
	defer value.Wipe()
	m := NewMaster(key, Path{})
	issued, err := m.DangerousIssue(context.Background(), Factor{1})
	require.NoError(t, err)
	var seen []byte
	require.NoError(t, issued.Under(context.Background(), m, Factor{1}, func(key KeyBytes, _ Messaging) error {
		seen = key.Reveal("test")
		before := append([]byte(nil), seen...)
		issued.Wipe() // as the caller of an abandoned loan does
		issued.Wipe()
		assert.Equal(t, before, seen, "wiped under its reader")
		assert.ErrorIs(t, issued.Under(context.Background(), m, Factor{1}, func(KeyBytes, Messaging) error { return nil }), errWiped)
		return nil
	}))
	assert.Equal(t, make([]byte, 16), seen)
	assert.Zero(t, issued.key.Len())
}

// staying is a key whose units only do what Unit says, as a token's do.
type staying struct{ Key }

func (k staying) Lend(ctx context.Context, path Path, use func(Unit) error) error {
	return k.Key.Lend(ctx, path, func(unit Unit) error { return use(struct{ Unit }{unit}) })
}

func TestKeysThatStay(t *testing.T) {
	key, value := memoryMaster(t, suite.SM4)
	defer value.Wipe()
	issued, err := NewMaster(staying{key}, Path{}).DangerousIssue(context.Background(), Factor{1})
	require.ErrorIs(t, err, ErrStays)
	assert.Nil(t, issued)

	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = NewMaster(key, Path{}).DangerousIssue(gone, Factor{1})
	require.ErrorIs(t, err, context.Canceled)

	issued, err = NewMaster(key, Path{}).DangerousIssue(context.Background(), Factor{1})
	require.NoError(t, err)
	defer issued.Wipe()
	failed := errors.New("failed")
	require.ErrorIs(t, issued.Under(gone, NewMaster(key, Path{}), Factor{1}, nil), context.Canceled)
	under := func(err error) error {
		return issued.Under(context.Background(), NewMaster(staying{key}, Path{}), Factor{1}, func(KeyBytes, Messaging) error { return err })
	}
	require.ErrorIs(t, under(failed), failed, "a control key that stays is used all the same")
	require.NoError(t, under(nil), "and a failed build may be tried again")
}
