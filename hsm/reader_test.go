package hsm

import (
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// A reader's keys are derived, its proofs made and its frames passed on every engine, as the vectors of the construction say. At
// the TOKEN boundary the device key and the session's keys never leave the token.
func TestReadersOnEveryEngine(t *testing.T) {
	text, err := os.ReadFile("../keyderive/testdata/line.json")
	require.NoError(t, err)
	var file struct{ Vectors []readerVector }
	require.NoError(t, json.Unmarshal(text, &file))
	vectors := map[suite.Algorithm]readerVector{}
	for _, v := range file.Vectors {
		vectors[v.Algorithm] = v
	}
	for name, config := range bothTokens {
		for _, e := range engines(config(t).Profile) {
			t.Run(name+" "+e.name, func(t *testing.T) {
				v, found := vectors[e.alg]
				require.True(t, found)
				v.replay(t, keyderive.NewMaster(e.make(t, openToken(t, config(t)), keyderive.KindReader, v.Master), demoPath))
			})
		}
	}
}

type readerVector struct {
	Algorithm                                              suite.Algorithm
	Master, DeviceNumber                                   string
	HostChallenge, ModuleChallenge, ModuleProof, HostProof string
	Frames                                                 []struct {
		Direction, Data, Frame string
		Sequence               uint32
		Last                   bool
	}
}

func (v readerVector) replay(t *testing.T, master keyderive.Master) {
	device := keyderive.Factor(bytesOf(t, v.DeviceNumber))
	host, module := keyderive.Challenge(bytesOf(t, v.HostChallenge)), keyderive.Challenge(bytesOf(t, v.ModuleChallenge))
	require.NoError(t, master.WithReader(context.Background(), device, func(r keyderive.Reader) error { // on a goroutine of the token
		s, err := r.Session(host, module)
		if err != nil {
			return err
		}
		a, err := s.Authentication()
		if err != nil {
			return err
		}
		proof, err := a.Answer(keyderive.Proof(bytesOf(t, v.ModuleProof)))
		assert.NoError(t, err)
		assert.Equal(t, bytesOf(t, v.HostProof), proof[:])
		_, err = a.Answer(proof)
		assert.ErrorIs(t, err, keyderive.ErrMismatch)
		down, err := s.Down()
		if err != nil {
			return err
		}
		up, err := s.Up()
		if err != nil {
			return err
		}
		for _, f := range v.Frames {
			if f.Direction == "down" {
				frame, err := down.Seal(f.Sequence, f.Last, bytesOf(t, f.Data))
				assert.NoError(t, err)
				assert.Equal(t, bytesOf(t, f.Frame), frame)
				continue
			}
			frame, err := keyderive.ParseUp(bytesOf(t, f.Frame))
			assert.NoError(t, err)
			data, err := up.Open(frame)
			assert.NoError(t, err)
			assert.Equal(t, bytesOf(t, f.Data), data)
		}
		long, err := down.Seal(1, false, make([]byte, keyderive.MaxLineData))
		assert.NoError(t, err)
		assert.Len(t, long, keyderive.MaxLineFrame)
		return nil
	}))
}

// The device key answers no block: it derives and does nothing else.
func TestADeviceKeyOnlyDerives(t *testing.T) {
	const inMemory = 2 // memory alone has no rights
	sm4, _ := sm4Config(t)
	for _, e := range engines(sm4.Profile)[inMemory:] {
		t.Run(e.name, func(t *testing.T) {
			config, _ := sm4Config(t)
			token := openToken(t, config)
			key := e.make(t, token, keyderive.KindReader, loadMaster)
			require.NoError(t, key.Lend(context.Background(), demoPath, func(issuer keyderive.Unit) error {
				for _, purpose := range []keyderive.Purpose{keyderive.ToEncrypt, keyderive.ToFold} {
					_, err := issuer.Derive([16]byte{1}, purpose)
					assert.ErrorIs(t, err, errRight)
				}
				device, err := issuer.Derive([16]byte{1}, keyderive.ToDerive)
				if err != nil {
					return err
				}
				_, err = device.ECB(make([]byte, 16))
				assert.ErrorIs(t, err, errRight)
				_, err = device.CBC(nil, make([]byte, 16))
				assert.ErrorIs(t, err, errRight)
				return nil
			}))
		})
	}
}
