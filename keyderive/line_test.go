package keyderive

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// lineVector is one of testdata/line.json, which another program computed: its provenance is in the file.
type lineVector struct {
	Algorithm       suite.Algorithm
	Master          string
	Issuer          string
	DeviceNumber    string
	HostChallenge   string
	ModuleChallenge string
	ModuleProof     string
	HostProof       string
	Frames          []struct {
		Direction string
		Sequence  uint32
		Last      bool
		Data      string
		Frame     string
	}
}

func lineVectors(t *testing.T) []lineVector {
	t.Helper()
	text, err := os.ReadFile("testdata/line.json")
	require.NoError(t, err)
	var file struct {
		Provenance string
		Vectors    []lineVector
	}
	require.NoError(t, json.Unmarshal(text, &file))
	require.Contains(t, file.Provenance, "line.py")
	require.Len(t, file.Vectors, 2)
	return file.Vectors
}

// session lends the vector's session, or that of another module or challenge.
func (v lineVector) session(t *testing.T, use func(ReaderSession), change ...func(v *lineVector)) {
	t.Helper()
	for _, c := range change {
		c(&v)
	}
	key, err := InMemory(v.Algorithm, secret.Take(unhex(t, v.Master)))
	require.NoError(t, err)
	master := NewMaster(key, RootFirst(Factor(unhex(t, v.Issuer))))
	require.NoError(t, master.WithReader(context.Background(), Factor(unhex(t, v.DeviceNumber)), func(r Reader) error {
		s, err := r.Session(Challenge(unhex(t, v.HostChallenge)), Challenge(unhex(t, v.ModuleChallenge)))
		require.NoError(t, err)
		use(s)
		return nil
	}))
}

func TestLineVectors(t *testing.T) {
	for _, v := range lineVectors(t) {
		v.session(t, func(s ReaderSession) {
			a, err := s.Authentication()
			require.NoError(t, err)
			host, err := a.Answer(Proof(unhex(t, v.ModuleProof)))
			require.NoError(t, err, "%v", v.Algorithm)
			assert.Equal(t, unhex(t, v.HostProof), host[:])

			down, err := s.Down()
			require.NoError(t, err)
			up, err := s.Up()
			require.NoError(t, err)
			require.NotEmpty(t, v.Frames)
			for _, f := range v.Frames {
				if f.Direction == "down" {
					frame, err := down.Seal(f.Sequence, f.Last, unhex(t, f.Data))
					require.NoError(t, err)
					assert.Equal(t, unhex(t, f.Frame), frame, "%v %d", v.Algorithm, f.Sequence)
					continue
				}
				frame, err := ParseUp(unhex(t, f.Frame))
				require.NoError(t, err)
				assert.Equal(t, f.Sequence, frame.Sequence)
				assert.Equal(t, f.Last, frame.Last)
				assert.Equal(t, len(f.Data)/2, frame.Len())
				data, err := up.Open(frame)
				require.NoError(t, err)
				assert.Equal(t, unhex(t, f.Data), data)
			}
		})
	}
}

// A proof is of one session, one module and one side: none of the others takes it, nor one with a flipped bit.
func TestProofsAreOfOneSession(t *testing.T) {
	for _, v := range lineVectors(t) {
		refused := func(proof []byte, what string, change ...func(*lineVector)) {
			v.session(t, func(s ReaderSession) {
				a, err := s.Authentication()
				require.NoError(t, err)
				host, err := a.Answer(Proof(proof))
				require.ErrorIs(t, err, ErrMismatch, what)
				assert.Zero(t, host, what)
			}, change...)
		}
		right := unhex(t, v.ModuleProof)
		for bit := range 64 {
			wrong := bytes.Clone(right)
			wrong[bit/8] ^= 1 << (bit % 8)
			refused(wrong, "a flipped bit")
		}
		refused(unhex(t, v.HostProof), "the host's own proof, reflected")
		for what, change := range map[string]func(*lineVector){
			"another device":           func(v *lineVector) { v.DeviceNumber = "0000202600000018" },
			"another host challenge":   func(v *lineVector) { v.HostChallenge = "0123456789ABCDEE" },
			"another module challenge": func(v *lineVector) { v.ModuleChallenge = "FEDCBA9876543211" },
			"swapped challenges": func(v *lineVector) {
				v.HostChallenge, v.ModuleChallenge = v.ModuleChallenge, v.HostChallenge
			},
			"another master": func(v *lineVector) { v.Master = "F7C1734AABB56E2CE6E3AE76862FDC3B" },
			"another issuer": func(v *lineVector) { v.Issuer = "2000100010001000" },
		} {
			refused(right, what, change)
		}
	}
}

// Every bit of a frame is under its MAC, or makes it no frame at all.
func TestEveryBitOfAFrame(t *testing.T) {
	for _, v := range lineVectors(t) {
		v.session(t, func(s ReaderSession) {
			up, err := s.Up()
			require.NoError(t, err)
			for _, f := range v.Frames {
				if f.Direction != "up" || len(f.Data) > 40 {
					continue
				}
				raw := unhex(t, f.Frame)
				for bit := range 8 * len(raw) {
					wrong := bytes.Clone(raw)
					wrong[bit/8] ^= 1 << (bit % 8)
					frame, err := ParseUp(wrong)
					if err != nil {
						continue
					}
					data, err := up.Open(frame)
					require.ErrorIs(t, err, ErrMismatch, "bit %d", bit)
					require.Nil(t, data)
				}
				for cut := range raw {
					_, err := ParseUp(raw[:cut])
					require.Error(t, err, "cut to %d", cut)
				}
				_, err := ParseUp(append(bytes.Clone(raw), 0))
				require.Error(t, err)
			}
		})
	}
}

func TestMalformedFrames(t *testing.T) {
	good := unhex(t, lineVectors(t)[0].Frames[6].Frame)
	_, err := ParseUp(good)
	require.NoError(t, err)
	for says, change := range map[string]func([]byte){
		"version 2":              func(b []byte) { b[0] = 2 },
		"not a frame from":       func(b []byte) { b[1] = directionDown },
		"unknown flags":          func(b []byte) { b[2] = 2 },
		"sequence 0":             func(b []byte) { copy(b[3:], []byte{0, 0, 0, 0}) },
		"length 0":               func(b []byte) { b[7], b[8] = 0, 0 },
		"length 16385":           func(b []byte) { b[7], b[8] = 0x40, 1 },
		"length 2, but 1 bytes":  func(b []byte) { b[8] = 2 },
		"17 bytes, expected at ": nil,
	} {
		b := bytes.Clone(good)
		if change == nil {
			b = b[:17]
		} else {
			change(b)
		}
		_, err := ParseUp(b)
		assert.ErrorContains(t, err, says)
	}
}

// Frames of one session share no keystream, and those of the largest size are made and opened.
func TestKeystreams(t *testing.T) {
	for _, v := range lineVectors(t) {
		v.session(t, func(s ReaderSession) {
			down, err := s.Down()
			require.NoError(t, err)
			seen := map[string]bool{}
			for _, sequence := range []uint32{1, 2, 256, 1 << 31} {
				frame, err := down.Seal(sequence, false, make([]byte, MaxLineData)) // zeros: the ciphertext is the keystream
				require.NoError(t, err)
				stream := frame[frameHeader : len(frame)-frameMAC]
				require.Len(t, stream, MaxLineData)
				for at := 0; at < len(stream); at += v.Algorithm.BlockSize() {
					block := string(stream[at : at+v.Algorithm.BlockSize()])
					require.False(t, seen[block], "%v: a block of keystream came twice", v.Algorithm)
					seen[block] = true
				}
			}
			for _, c := range []struct {
				sequence uint32
				length   int
			}{{0, 1}, {1, 0}, {1, MaxLineData + 1}} {
				_, err := down.Seal(c.sequence, false, make([]byte, c.length))
				require.ErrorContains(t, err, "expected 1 to 16384")
			}
		})
	}
	assert.EqualValues(t, 3, LineBlocks(suite.TDES, 1))
	assert.EqualValues(t, 4, LineBlocks(suite.TDES, 9))
	assert.EqualValues(t, 2, LineBlocks(suite.SM4, 16))
	assert.EqualValues(t, 1025, LineBlocks(suite.SM4, MaxLineData))
}
