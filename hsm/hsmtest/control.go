package hsmtest

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	forwardVariable = "PURSEKEEPER_FAULT_FORWARD" // the module that the fault module forwards to
	controlVariable = "PURSEKEEPER_FAULT_CONTROL" // the control file
)

// The control file's words; module/control.h says what they are.
const (
	wordMagic         = 0
	wordWords         = 1
	wordLosses        = 2
	wordAwayUntil     = 3
	wordReleases      = 4
	wordHanging       = 5
	wordFinalizeBusy  = 6
	wordCloseBusy     = 7
	wordSessionShared = 8
	wordPINRefused    = 9
	wordMaxInFlight   = 10
	wordLossesDone    = 11
	wordCalls         = 16
	wordRules         = 88
	wordsOfRule       = 8
	functionRows      = 72
	controlWords      = wordRules + functionRows*wordsOfRule

	controlMagic = 0x31544c5541464b50 // "PKFAULT1" in the order of its bytes

	ruleSet    = 1 << 0
	ruleAnswer = 1 << 1
	ruleAfter  = 1 << 2
	ruleLose   = 1 << 3
)

// Control steers the fault module and reads what it counted, whichever process has it loaded. Its methods may be called by
// several goroutines.
type Control struct {
	tb      testing.TB
	path    string
	numbers map[string]int
	// words is the control file. It stays mapped to the end of the process: a goroutine that outlives its test may look at it.
	words []atomic.Uint64
	mu    sync.Mutex // one writer of rules, away time and losses
}

func newControl(tb testing.TB) *Control {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "control")
	words, err := mapControl(path)
	if err != nil {
		tb.Fatalf("hsmtest: control file: %v", err)
	}
	numbers, err := functionNumbers()
	if err != nil {
		tb.Fatalf("hsmtest: functions: %v", err)
	}
	control := &Control{tb: tb, path: path, numbers: numbers, words: words}
	tb.Cleanup(func() {
		control.RestoreToken()
		control.Clear()
	})
	return control
}

func mapControl(path string) ([]atomic.Uint64, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := file.Truncate(controlWords * 8); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, controlWords*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	words := unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(memory))), controlWords)
	words[wordWords].Store(controlWords)
	words[wordMagic].Store(controlMagic)
	return words, nil
}

func (c *Control) number(function string) int {
	c.tb.Helper()
	number, known := c.numbers[function]
	if !known {
		c.tb.Fatalf("hsmtest: %q is no function of PKCS#11 v2.40", function)
	}
	return number
}

// Set puts a fault in force, in the place of the one that its function had.
func (c *Control) Set(fault Fault) {
	c.tb.Helper()
	number := c.number(fault.Function)
	if err := fault.validate(); err != nil {
		c.tb.Fatalf("hsmtest: fault of %s: %v", fault.Function, err)
	}
	flags := uint64(ruleSet)
	if fault.Code != 0 {
		flags |= ruleAnswer
	}
	if fault.AfterCall {
		flags |= ruleAfter
	}
	if fault.LoseSessions {
		flags |= ruleLose
	}
	hang := uint64(fault.Hang)
	if fault.Hang == HangForever {
		hang = math.MaxUint64
	}
	c.write(number, max(fault.From, 1), fault.To, flags, uint64(fault.Code), uint64(fault.Latency), hang)
}

// write replaces a rule's words from "first call" on, behind a sequence number that is odd meanwhile.
func (c *Control) write(number int, values ...uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rule := c.words[wordRules+number*wordsOfRule:][:wordsOfRule]
	rule[0].Add(1)
	rule[1].Store(c.words[wordCalls+number].Load())
	for i, value := range values {
		rule[2+i].Store(value)
	}
	rule[0].Add(1)
}

// Clear takes all faults out of force and lets the calls that hang go. What was counted stays.
func (c *Control) Clear() {
	for number := range functionRows {
		c.write(number, 0, 0, 0, 0, 0, 0)
	}
	c.ReleaseHangs()
}

// ReleaseHangs lets the calls go that hang now. Those to come hang by their rule.
func (c *Control) ReleaseHangs() { c.words[wordReleases].Add(1) }

// LoseSessions loses every session of every process that uses the token, with login and session objects, as when a token
// starts anew. Old handles are answered CKR_SESSION_HANDLE_INVALID from now on; calls inside the token go to their end.
func (c *Control) LoseSessions() { c.words[wordLosses].Add(1) }

// RemoveToken takes the token away for that long, or with 0 until RestoreToken. Meanwhile what needs a session is answered
// CKR_DEVICE_REMOVED, what needs the token CKR_TOKEN_NOT_PRESENT, and the slot is there but empty. The sessions are lost.
func (c *Control) RemoveToken(d time.Duration) {
	until := uint64(math.MaxUint64)
	if d > 0 {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			c.tb.Errorf("hsmtest: clock: %v", err)
		}
		until = uint64(now.Nano() + int64(d))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.words[wordAwayUntil].Store(until)
	c.words[wordLosses].Add(1)
}

// RestoreToken brings the token back at once.
func (c *Control) RestoreToken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.words[wordAwayUntil].Store(0)
}

// Calls is how many calls of the function the module was given, answered by the token or by a fault, since the token was made.
// C_GetFunctionList is not counted.
func (c *Control) Calls(function string) uint64 {
	c.tb.Helper()
	return c.words[wordCalls+c.number(function)].Load()
}
