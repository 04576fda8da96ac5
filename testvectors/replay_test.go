package testvectors

import (
	"bytes"
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// files are the embedded vectors and testdata/forms.json: every form that the format allows, by a program of its own.
func files(t testing.TB) []File {
	t.Helper()
	embedded, err := Embedded()
	require.NoError(t, err)
	require.Len(t, embedded, 2)
	r, err := os.Open("testdata/forms.json")
	require.NoError(t, err)
	defer r.Close()
	forms, err := Load(r)
	require.NoError(t, err)
	forms.Name = "forms.json"
	return append(embedded, forms)
}

func replay(t testing.TB, engine Engine, file File) Report {
	t.Helper()
	report, err := Replay(context.Background(), engine, file)
	require.NoError(t, err)
	return report
}

// outs is how many values the vectors give.
func outs(vectors []Vector) (n int) {
	for _, v := range vectors {
		n += len(v.Out)
	}
	return n
}

func TestVectorsHoldInMemory(t *testing.T) {
	for _, file := range files(t) {
		t.Run(file.Name, func(t *testing.T) {
			report := replay(t, Memory(), file)
			assert.Empty(t, report.Failures)
			assert.True(t, report.Holds())
			total := report.Total()
			assert.Equal(t, len(file.Vectors), total.Vectors)
			assert.Equal(t, outs(file.Vectors), total.Compared+total.Refused)
			assert.Zero(t, total.ByEffect, "memory shows every key")
		})
	}
}

// The operations and both algorithms are all there: a replay that lost one would still hold.
func TestEmbeddedVectorsCoverEveryOperation(t *testing.T) {
	embedded, err := Embedded()
	require.NoError(t, err)
	var sum Report
	for _, file := range embedded {
		sum.Merge(replay(t, Memory(), file))
	}
	for _, operation := range Operations() {
		for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
			assert.True(t, slices.ContainsFunc(sum.Rows, func(row Row) bool {
				return row.Operation == operation && row.Algorithm == alg && row.Compared > 0
			}), "%s %v", operation, alg)
		}
	}
	assert.Equal(t, 2, sum.Total().Refused)
}

// altered is v with one value changed.
func altered(v Vector, value Value, to []byte) File {
	v.Out = maps.Clone(v.Out)
	v.Out[value] = to
	return File{Vectors: []Vector{v}}
}

// No value passes with any one of its digits flipped.
func TestEveryFlippedDigitFails(t *testing.T) {
	flips := 0
	for _, file := range files(t) {
		for _, v := range file.Vectors {
			for value, out := range v.Out {
				if value == v.Refused {
					continue // wrong already
				}
				for digit := range 2 * len(out) {
					wrong := slices.Clone(out)
					wrong[digit/2] ^= flip(digit)
					report := replay(t, Memory(), altered(v, value, wrong))
					require.False(t, report.Holds(), "%s %s %s digit %d", file.Name, v.ID, value, digit)
					require.Equal(t, value, report.Failures[0].Value)
					require.Equal(t, v.ID, report.Failures[0].ID)
					flips++
				}
			}
		}
	}
	assert.Greater(t, flips, 5_000)
}

// flip is one bit of the digit, another one each time, and never the lowest of a byte: that may be a DES parity bit.
func flip(digit int) byte {
	if digit%2 == 0 {
		return 0x10 << (digit / 2 % 4)
	}
	return 0x02 << (digit / 2 % 3)
}

// DES keys hold whatever their parity bits are; SM4 keys have none.
func TestParityBitsAreOfDESAlone(t *testing.T) {
	tried := 0
	for _, file := range files(t) {
		for _, v := range file.Vectors {
			for _, value := range []Value{CardKeyValue, SessionKeyValue} {
				for i := range v.Out[value] {
					other := slices.Clone(v.Out[value])
					other[i] ^= 0x01
					report := replay(t, Memory(), altered(v, value, other))
					require.Equal(t, v.Algorithm == suite.TDES, report.Holds(), "%s %s %s byte %d", file.Name, v.ID, value, i)
					tried++
				}
			}
		}
	}
	assert.Greater(t, tried, 500)
}

// A vector that expects a refusal fails when verification has nothing to refuse.
func TestARightValueThatShouldBeRefusedFails(t *testing.T) {
	tried := 0
	for _, file := range files(t) {
		for _, v := range file.Vectors {
			if v.Refused != "" {
				continue
			}
			for value := range v.Out {
				if !value.isMAC() {
					continue
				}
				v.Refused = value
				report := replay(t, Memory(), File{Vectors: []Vector{v}})
				require.Len(t, report.Failures, 1, "%s %s %s", file.Name, v.ID, value)
				require.Equal(t, value, report.Failures[0].Value)
				require.Contains(t, report.Failures[0].String(), problemAccepted)
				tried++
			}
		}
	}
	assert.Greater(t, tried, 100)
}

// In a vector with a value to be refused the other values count, and one that is wrong by accident is not taken for it.
func TestOnlyTheNamedValueMayBeWrong(t *testing.T) {
	v := vectorOf(t, "3DES-load-1-wrong-mac1")
	require.Equal(t, MAC1Value, v.Refused)
	report := replay(t, Memory(), altered(v, MAC2Value, []byte{1, 2, 3, 4}))
	require.Len(t, report.Failures, 1)
	assert.Equal(t, MAC2Value, report.Failures[0].Value)
	assert.Equal(t, 1, report.Total().Refused)
}

func vectorOf(t testing.TB, id string) Vector {
	t.Helper()
	for _, file := range files(t) {
		for _, v := range file.Vectors {
			if v.ID == id {
				return v
			}
		}
	}
	require.Fail(t, "no such vector", id)
	return Vector{}
}

func TestAReplayOfNothingDoesNotHold(t *testing.T) {
	assert.False(t, replay(t, Memory(), File{}).Holds())
	assert.False(t, Report{}.Holds())
}

func TestReplayEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Replay(ctx, Memory(), files(t)[0])
	require.ErrorIs(t, err, context.Canceled)
}

func TestReportPrints(t *testing.T) {
	var out bytes.Buffer
	v := vectorOf(t, "3DES-load-ep")
	report := replay(t, Memory(), altered(v, MAC2Value, []byte{0x60, 0xB7, 0xB5, 0xB8}))
	report.Merge(replay(t, Memory(), File{Vectors: []Vector{vectorOf(t, "SM4-tac-load-refused")}}))
	require.NoError(t, report.Print(&out))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 5)
	assert.Equal(t, strings.Fields("operation algorithm target vectors values compared compared by effect refused as expected failed"), strings.Fields(lines[0]))
	assert.Equal(t, strings.Fields("load 3DES memory 1 3 0 0 1"), strings.Fields(lines[1]))
	assert.Equal(t, strings.Fields("tac SM4 memory 1 0 0 1 0"), strings.Fields(lines[2]))
	assert.Equal(t, "FAILED 3DES-load-ep on memory: mac2 differs: expected 60B7B5B8, got 60B7B5B7", lines[3])
	assert.Equal(t, "2 vectors, 5 values, 0 compared by effect, 1 refused as expected, 1 failed", lines[4])
}
