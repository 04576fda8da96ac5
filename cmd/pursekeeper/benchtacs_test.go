package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/signer"
)

// A forged TAC among some thousands is found by its line, in both suites, in a file that was just made and in one that was there.
func TestBenchTACs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tacs.csv")
	command := []string{"bench", "tacs", "--count", "25001", "--forge", "2", "--file", file, "--json"}
	for range 2 {
		status, out := run(t, command, temporary(t))
		require.Zero(t, status, out)
		var f tacFigures
		require.NoError(t, json.Unmarshal([]byte(out), &f), out)
		assert.Equal(t, 25001, f.TACs)
		assert.Equal(t, 2, f.NotVerified)
		assert.Equal(t, []badTAC{{6252, "TAC_MISMATCH"}, {18752, "TAC_MISMATCH"}}, f.Listed)
		assert.Positive(t, f.PeakMiB)
		require.Len(t, f.Runs, 2)
		for i, want := range []tacRun{{KeySet: "demo", Boundary: "CARD", TACs: 12500}, {KeySet: "demo-sm4", Boundary: "PROCESS", TACs: 12501}} {
			assert.Positive(t, f.Runs[i].PerSecond)
			assert.Positive(t, f.Runs[i].CPUMicros)
			f.Runs[i].PerSecond, f.Runs[i].CPUMicros = 0, 0
			assert.Equal(t, want, *f.Runs[i])
		}
		command = []string{"bench", "tacs", "--file", file, "--json"} // whatever else is asked, the file is as it is
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	lines := strings.Split(string(content), "\n")
	require.Len(t, lines, 25001+2)

	// Any line may be forged by hand, malformed or of a key set that is not there: it is found by its number, and so alone.
	lines[99] = strings.Replace(lines[99], ",06,", ",03,", 1)
	lines[99] = strings.Replace(lines[99], ",05,", ",03,", 1)
	lines[100] = "nowhere" + strings.TrimPrefix(lines[100], "demo")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600))
	status, out := run(t, []string{"bench", "tacs", "--file", file}, temporary(t))
	require.Zero(t, status, out)
	assert.Contains(t, out, "not verified: 4 of 25001\n  line 100: type: 03 is an unload")
	assert.Contains(t, out, "\n  line 101: keySet: \"nowhere\" is not known\n  line 6252: TAC_MISMATCH\n  line 18752: TAC_MISMATCH\n")
	assert.Regexp(t, `demo +CARD +99 +\d+`, out)
	assert.Regexp(t, `peak memory \d+ MiB`, out)
}

// A file of TACs that is not as it must be is refused by its line.
func TestTACFileIsStrict(t *testing.T) {
	const good = "demo,3105228200000000,,1,06,100,112233445566,00000000,,,,,20240131,120000,d574753f"
	for name, c := range map[string]struct{ text, want string }{
		"nothing":       {"", "line 1: expected "},
		"no header":     {good + "\n", "line 1: expected "},
		"other header":  {strings.ToUpper(tacHeader) + "\n" + good + "\n", "line 1: expected "},
		"cut":           {tacHeader + "\n" + good, "line 2: the file ends in the middle of it"},
		"empty line":    {tacHeader + "\n" + good + "\n\n", "line 3: expected 15 fields"},
		"field missing": {tacHeader + "\n" + good + "\n" + strings.Replace(good, ",,", ",", 1) + "\n", "line 3: expected 15 fields"},
		"field more":    {tacHeader + "\n" + good + ",\n", "line 2: expected 15 fields"},
		"too long":      {tacHeader + "\n" + good + strings.Repeat(" ", longestTACLine) + "\n", "line 2: over 512 bytes"},
		"far too long":  {tacHeader + "\n" + strings.Repeat("x", 2<<20) + "\n", "line 2: over 512 bytes"},
		"amount":        {tacHeader + "\n" + strings.Replace(good, ",100,", ",1e2,", 1) + "\n", "line 2: amountFen: expected a decimal number"},
		"amount, zeros": {tacHeader + "\n" + strings.Replace(good, ",100,", ",0100,", 1) + "\n", "line 2: amountFen: expected a decimal number"},
		"version":       {tacHeader + "\n" + strings.Replace(good, ",1,", ",4294967296,", 1) + "\n", "line 2: keyVersion: expected a decimal number"},
		"balance":       {tacHeader + "\n" + strings.Replace(good, ",,,,,", ",,-1,,,", 1) + "\n", "line 2: balanceFen: expected a decimal number"},
	} {
		reader, err := newTACReader(strings.NewReader(c.text))
		for err == nil {
			_, err = reader.next(signer.MaxTACs)
		}
		assert.ErrorContains(t, err, c.want, name)
		assert.False(t, errors.Is(err, io.EOF), name)
	}
}

// Every field of a line has its place in the request, and a batch is of one key set.
func TestTACFileIsReadWhole(t *testing.T) {
	text := tacHeader + "\na,b,c,2,d,3,e,f,g,4,5,6,h,i,j\na,,,,,,,,,,,,,,\nz,,,,,,,,,0,,,,,\nz,,,,,,,,,,,,,,\nz,,,,,,,,,,,,,,k\n"
	reader, err := newTACReader(strings.NewReader(text))
	require.NoError(t, err)
	number := func(n uint64) *uint64 { return &n }
	for _, want := range []tacBatch{
		{"a", 2, []signer.TACRequest{{
			KeySet: "a", CardSerial: "b", IssuerID: "c", KeyVersion: 2, Type: "d", AmountFen: 3, TerminalID: "e", TerminalSerial: "f",
			Counter: "g", BalanceFen: number(4), OldLimitFen: number(5), NewLimitFen: number(6), Date: "h", Time: "i", TAC: "j",
		}, {KeySet: "a"}}},
		{"z", 4, []signer.TACRequest{{KeySet: "z", BalanceFen: number(0)}, {KeySet: "z"}}},
		{"z", 6, []signer.TACRequest{{KeySet: "z", TAC: "k"}}},
	} {
		got, err := reader.next(2)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = reader.next(2)
	require.ErrorIs(t, err, io.EOF)
}

// The forged TACs of a deck are where it says, however many there are.
func TestForgedPlaces(t *testing.T) {
	for _, count := range []int{1, 2, 10, 97} {
		for forge := range count + 1 {
			d := tacDeck{count: count, forge: forge}
			var places, found []int
			for i := range forge {
				places = append(places, d.forged(i))
			}
			for at := range count {
				if d.isForged(at) {
					found = append(found, at)
				}
			}
			require.Equal(t, places, found, fmt.Sprint(forge, " of ", count))
		}
	}
}
