// Command testlog reads the events of `go test -json` and prints what `go test` would have: the whole output of a test that
// failed, one line for each package, and at the end which tests took longest. It fails where a test failed, and also where one was skipped: a test that needs a token
// and finds none proves nothing, so on the way to a release a skip is a failure (a stream with no passed test at all, too).
package main

import (
	"fmt"
	"os"
)

func main() {
	log, err := read(os.Stdin, os.Stdout)
	fmt.Print(log.slowest(15))
	if err == nil {
		err = log.verdict()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(1)
	}
	fmt.Printf("%d tests passed in %d packages, none failed, none skipped\n", log.passed, log.packages)
}
