package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of `go test -json`, as `go doc test2json` describes it. Test is empty in the events of a package.
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build that failed
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

// log is what a stream of events came to. Subtests count as tests.
type log struct {
	passed   int
	packages int
	failed   []string
	skipped  []string
	ended    []duration // of tests that passed, without subtests
}

// duration is how long a test took, in seconds.
type duration struct {
	seconds float64
	name    string
}

// read takes events until r ends and writes to w the output of packages as they end, without that of tests that passed.
func read(r io.Reader, w io.Writer) (log, error) {
	var l log
	held := map[string]*strings.Builder{} // by package and test, until the test ends
	dec := json.NewDecoder(r)
	for {
		var e event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return l, nil
		} else if err != nil {
			return l, fmt.Errorf("a line that is no event of go test -json: %w", err)
		}
		name := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			if e.Test == "" {
				fmt.Fprint(w, passing(e.Output))
				continue
			}
			if held[name] == nil {
				held[name] = new(strings.Builder)
			}
			held[name].WriteString(e.Output)
		case "build-output":
			fmt.Fprint(w, e.Output)
		case "build-fail":
			l.failed = append(l.failed, e.ImportPath+" (does not build)")
		case "pass", "fail", "skip":
			if e.Action == "fail" && held[name] != nil {
				fmt.Fprint(w, held[name])
			}
			delete(held, name)
			if e.Action == "fail" && e.Test == "" {
				unfinished(held, e.Package, w)
			}
			l.count(e)
		}
	}
}

// unfinished writes what the tests of a package said that ran when it died: a panic or the time limit ends them with no event.
func unfinished(held map[string]*strings.Builder, in string, w io.Writer) {
	for _, name := range slices.Sorted(maps.Keys(held)) {
		if strings.HasPrefix(name, in+" ") {
			fmt.Fprint(w, held[name])
			delete(held, name)
		}
	}
}

// passing drops the lines that only say that all went well, which `go test` does not print either.
func passing(line string) string {
	if line == "PASS\n" || strings.HasPrefix(line, "testing: warning: no tests to run") {
		return ""
	}
	return line
}

// count takes one ended test or package into the log. A package that is "skip" has no test files: that is no skipped test.
func (l *log) count(e event) {
	name := strings.TrimSpace(e.Package + " " + e.Test)
	switch {
	case e.Action == "fail":
		l.failed = append(l.failed, name)
	case e.Test == "" && e.Action == "pass":
		l.packages++
	case e.Test != "" && e.Action == "pass":
		l.passed++
		if !strings.Contains(e.Test, "/") {
			l.ended = append(l.ended, duration{e.Elapsed, name})
		}
	case e.Test != "" && e.Action == "skip":
		l.skipped = append(l.skipped, name)
	}
}

// slowest are the n tests that took longest, the slowest first, a line each.
func (l log) slowest(n int) string {
	slices.SortStableFunc(l.ended, func(a, b duration) int { return cmp.Compare(b.seconds, a.seconds) })
	var out strings.Builder
	for _, d := range l.ended[:min(n, len(l.ended))] {
		fmt.Fprintf(&out, "%7.1f s  %s\n", d.seconds, d.name)
	}
	return out.String()
}

// verdict is nil when at least one test passed, and none failed or was skipped.
func (l log) verdict() error {
	var errs []error
	if len(l.failed) > 0 {
		slices.Sort(l.failed)
		errs = append(errs, fmt.Errorf("failed:\n  %s", strings.Join(l.failed, "\n  ")))
	}
	if len(l.skipped) > 0 {
		slices.Sort(l.skipped)
		errs = append(errs, fmt.Errorf("skipped, which counts as failed:\n  %s", strings.Join(l.skipped, "\n  ")))
	}
	if l.passed == 0 {
		errs = append(errs, errors.New("no test passed"))
	}
	return errors.Join(errs...)
}
