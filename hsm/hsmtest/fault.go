package hsmtest

import (
	"errors"
	"fmt"
	"time"
)

// HangForever is a [Fault.Hang] that only ReleaseHangs or Clear ends.
const HangForever time.Duration = -1

// Fault is what happens to some calls of one function. A call that meets the rule of its function and that of EveryFunction
// has both: the latencies add up, the longer hang is taken, and the function's own code comes first.
type Fault struct {
	// Function is a PKCS#11 name, "C_Sign", or EveryFunction. C_GetFunctionList has no faults.
	Function string
	// From and To are the first and last call that the fault is for, counted from 1 when the fault is set. From 0 is 1; To 0
	// has no end.
	From, To uint64
	// Code is the CKR code to answer instead of forwarding the call; 0 forwards it.
	Code uint
	// Latency is added before the call is forwarded or answered.
	Latency time.Duration
	// Hang holds the call that long, or with HangForever until it is released; then the call goes on. A call that hangs is
	// inside the library, as its caller sees it.
	Hang time.Duration
	// LoseSessions loses every session of every process that uses the token, with login and session objects, as when a token
	// starts anew: the call itself finds its session gone, unless Code answers it.
	LoseSessions bool
	// AfterCall forwards the call before Code and LoseSessions: the token has done the work, and the answer never came.
	AfterCall bool
}

// validate refuses a fault that would do nothing, or not what it seems to say.
func (f Fault) validate() error {
	switch {
	case f.Function == "C_GetFunctionList":
		return errors.New("function: C_GetFunctionList has no faults")
	case f.To != 0 && f.To < f.From:
		return fmt.Errorf("to: call %d is before from, call %d", f.To, f.From)
	case f.Latency < 0:
		return errors.New("latency: negative")
	case f.Hang < 0 && f.Hang != HangForever:
		return errors.New("hang: negative, and not HangForever")
	case f.Code == 0 && f.Latency == 0 && f.Hang == 0 && !f.LoseSessions:
		return errors.New("the fault does nothing")
	case f.AfterCall && f.Code == 0 && !f.LoseSessions:
		return errors.New("after call: neither code nor lose sessions is to come after it")
	}
	return nil
}
