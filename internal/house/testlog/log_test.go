package main

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	goodTest = `{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"pass","Package":"p","Test":"TestGood"}
`
	badTest = `{"Action":"run","Package":"p","Test":"TestBad"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"    bad_test.go:9: not so\n"}
{"Action":"fail","Package":"p","Test":"TestBad"}
`
	skippedTest = `{"Action":"output","Package":"p","Test":"TestToken/load","Output":"--- SKIP: TestToken/load (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestToken/load"}
`
	hangingTest = `{"Action":"output","Package":"p","Test":"TestHangs","Output":"panic: test timed out\n"}
`
	packageEnd = `{"Action":"output","Package":"p","Output":"ok  \tp\t0.003s\n"}
{"Action":"pass","Package":"p"}
`
	packageFail = `{"Action":"output","Package":"p","Output":"FAIL\tp\t0.003s\n"}
{"Action":"fail","Package":"p"}
`
	noTestFiles = `{"Action":"output","Package":"q","Output":"?   \tq\t[no test files]\n"}
{"Action":"skip","Package":"q"}
`
	buildFailed = `{"ImportPath":"p [p.test]","Action":"build-output","Output":"p.go:1: undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
`
)

func TestVerdict(t *testing.T) {
	tests := []struct {
		name, stream string
		verdict      []string // parts of the error; none: passed
		printed      string
	}{
		{"all passed", goodTest + packageEnd + noTestFiles, nil, "ok  \tp\t0.003s\n?   \tq\t[no test files]\n"},
		{"a skip fails, by name", goodTest + skippedTest + packageEnd, []string{"skipped", "p TestToken/load"}, "ok  \tp\t0.003s\n"},
		{"a failure shows its output", goodTest + badTest + packageFail, []string{"failed", "p TestBad"},
			"    bad_test.go:9: not so\nFAIL\tp\t0.003s\n"},
		{"a test that never ended shows its output", goodTest + hangingTest + packageFail, []string{"failed"},
			"FAIL\tp\t0.003s\npanic: test timed out\n"},
		{"a package that does not build", goodTest + packageEnd + buildFailed, []string{"does not build"},
			"ok  \tp\t0.003s\np.go:1: undefined: x\n"},
		{"a package that fails outside its tests", goodTest + packageFail, []string{"failed"}, "FAIL\tp\t0.003s\n"},
		{"nothing ran", noTestFiles, []string{"no test passed"}, "?   \tq\t[no test files]\n"},
		{"empty", "", []string{"no test passed"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			log, err := read(strings.NewReader(test.stream), &out)
			require.NoError(t, err)
			assert.Equal(t, test.printed, out.String())
			err = log.verdict()
			if test.verdict == nil {
				require.NoError(t, err)
			}
			for _, part := range test.verdict {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestALineThatIsNoEventIsAnError(t *testing.T) {
	_, err := read(strings.NewReader(goodTest+"go: module not found\n"), &strings.Builder{})
	require.ErrorContains(t, err, "no event")
}

func TestTheSlowestComeFirst(t *testing.T) {
	l, err := read(strings.NewReader(`{"Action":"pass","Package":"p","Test":"TestQuick","Elapsed":0.1}
{"Action":"pass","Package":"p","Test":"TestSlow","Elapsed":12.34}
{"Action":"pass","Package":"p","Test":"TestSlow/part","Elapsed":12.3}
{"Action":"pass","Package":"p","Test":"TestMiddling","Elapsed":2}
`), io.Discard)
	require.NoError(t, err)
	assert.Equal(t, "   12.3 s  p TestSlow\n    2.0 s  p TestMiddling\n", l.slowest(2))
	assert.Contains(t, l.slowest(9), "TestQuick")
	assert.NotContains(t, l.slowest(9), "part")
}
