package hsmtest

import (
	"fmt"
	"runtime"
	"testing"
)

// double stands for the test where a test is about failing: it keeps the message and ends its goroutine, as Fatalf does.
type double struct {
	testing.TB
	message string
}

func (d *double) Helper() {}

func (d *double) Fatalf(format string, args ...any) {
	d.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
