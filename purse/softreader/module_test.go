package softreader_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse/softreader"
)

// vector is one of the line's vectors, which a third program computed.
type vector struct {
	Algorithm                               suite.Algorithm
	Master, Issuer, DeviceNumber, DeviceKey hexBytes
	HostChallenge, ModuleChallenge          hexBytes
	ModuleProof, HostProof                  hexBytes
	Frames                                  []frame
}

type frame struct {
	Direction   string
	Sequence    uint32
	Last        bool
	Data, Frame hexBytes
}

type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

func vectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("../../keyderive/testdata/line.json")
	require.NoError(t, err)
	var file struct{ Vectors []vector }
	require.NoError(t, json.Unmarshal(text, &file))
	require.Len(t, file.Vectors, 2)
	return file.Vectors
}

// module is the vector's module with its session open.
func (v vector) module(t *testing.T) *softreader.Module {
	t.Helper()
	key, err := softreader.Diversify(v.Algorithm, [16]byte(v.Master), [8]byte(v.Issuer), [8]byte(v.DeviceNumber))
	require.NoError(t, err)
	require.Equal(t, []byte(v.DeviceKey), key[:])
	m, err := softreader.New(softreader.Options{
		Algorithm: v.Algorithm, Number: [8]byte(v.DeviceNumber), Key: key, Random: bytes.NewReader(v.ModuleChallenge),
	})
	require.NoError(t, err)
	_, err = m.Seal([]byte{1}, false)
	require.ErrorIs(t, err, softreader.ErrState)
	require.ErrorIs(t, m.Accept([8]byte(v.HostProof)), softreader.ErrState)
	own, proof, err := m.Answer([8]byte(v.HostChallenge))
	require.NoError(t, err)
	require.Equal(t, []byte(v.ModuleChallenge), own[:])
	require.Equal(t, []byte(v.ModuleProof), proof[:])
	_, _, err = m.Open(v.Frames[0].Frame)
	require.ErrorIs(t, err, softreader.ErrState)
	require.NoError(t, m.Accept([8]byte(v.HostProof)))
	return m
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		m := v.module(t)
		opened, sealed := 0, 0
		for _, f := range v.Frames {
			if f.Sequence > 4 {
				continue // the session is not there yet
			}
			if f.Direction == "up" {
				frame, err := m.Seal(f.Data, f.Last)
				require.NoError(t, err)
				assert.Equal(t, []byte(f.Frame), frame)
				sealed++
				continue
			}
			data, last, err := m.Open(f.Frame)
			require.NoError(t, err)
			assert.Equal(t, []byte(f.Data), data)
			assert.Equal(t, f.Last, last)
			opened++
			_, _, err = m.Open(f.Frame)
			assert.ErrorIs(t, err, softreader.ErrSequence, "replayed")
		}
		assert.Equal(t, 4, opened)
		assert.Equal(t, 4, sealed)
		far := v.Frames[4]
		_, _, err := m.Open(far.Frame)
		assert.ErrorIs(t, err, softreader.ErrSequence, "out of order")
	}
}

func TestWhatAModuleRefuses(t *testing.T) {
	for _, v := range vectors(t) {
		m := v.module(t)
		good := v.Frames[0].Frame
		for bit := range 8 * len(good) {
			wrong := bytes.Clone(good)
			wrong[bit/8] ^= 1 << (bit % 8)
			_, _, err := m.Open(wrong)
			require.Error(t, err, "bit %d", bit)
		}
		for cut := range good {
			_, _, err := m.Open(good[:cut])
			require.ErrorIs(t, err, softreader.ErrFrame)
		}
		own, err := m.Seal([]byte{1}, true)
		require.NoError(t, err)
		_, _, err = m.Open(own)
		require.ErrorIs(t, err, softreader.ErrFrame, "its own frame, reflected")
		_, err = m.Seal([]byte{1}, false)
		require.ErrorIs(t, err, softreader.ErrState, "after the last")
		_, _, err = m.Open(good)
		require.NoError(t, err, "the refused ones changed nothing")

		n, err := softreader.New(softreader.Options{
			Algorithm: v.Algorithm, Number: [8]byte(v.DeviceNumber), Random: bytes.NewReader(make([]byte, 16)),
		})
		require.NoError(t, err)
		_, proof, err := n.Answer([8]byte(v.HostChallenge))
		require.NoError(t, err)
		require.ErrorIs(t, n.Accept(proof), softreader.ErrProof, "its own proof, reflected")
		require.ErrorIs(t, n.Accept([8]byte(v.HostProof)), softreader.ErrState, "one try")
		for _, length := range []int{0, 16385} {
			_, err = m.Seal(make([]byte, length), false)
			require.Error(t, err)
		}
	}
}

func TestAModuleShowsNoKey(t *testing.T) {
	v := vectors(t)[0]
	m := v.module(t)
	for _, text := range []string{fmt.Sprintf("%v", m), fmt.Sprintf("%+v", m), fmt.Sprintf("%#v", m), fmt.Sprintf("%x", m)} {
		assert.Equal(t, "softreader 0000202600000017", text)
	}
	_, err := softreader.New(softreader.Options{Algorithm: suite.TDES})
	require.ErrorContains(t, err, "randomness")
	_, err = softreader.New(softreader.Options{Random: bytes.NewReader(nil)})
	require.Error(t, err)
}
