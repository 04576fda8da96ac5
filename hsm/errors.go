package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/keyderive"
)

// What callers tell apart with errors.Is. keyderive.ErrUnsupported is the tenth.
var (
	// ErrUnavailable: the token is away, recovering, or not logged in; nothing was computed. Trying again may help.
	ErrUnavailable = errors.New("the token is unavailable")
	// ErrBusy: more callers wait than Config.Queue allows.
	ErrBusy = errors.New("too many callers wait for the token")
	// ErrPINLatched: the PIN was refused or may have been, or one try is left; no login is made until Token.Unlatch. It is ErrUnavailable too.
	ErrPINLatched = fmt.Errorf("%w: the PIN is latched until an operator acts", ErrUnavailable)
	// ErrKeyNotFound: no object, or no configured key, has the label.
	ErrKeyNotFound = errors.New("key not found")
	// ErrAmbiguous: more than one object has the label.
	ErrAmbiguous = errors.New("more than one object has the label")
	// ErrKCVMismatch: the token's key is not the one that was configured.
	ErrKCVMismatch = errors.New("check value mismatch")
	// ErrAttributes: the object's attributes are weaker, or give more rights, than the key's boundary needs.
	ErrAttributes = errors.New("key attributes refused")
	// ErrExists: an object has the label already, or a key of another spec is configured under it.
	ErrExists = errors.New("an object has the label already")
	// ErrNoBackup: a master was to be made without saying what becomes of its copy.
	ErrNoBackup = errors.New("no backup key is named")
	// ErrWrapped: a wrapped copy is not that of the key, or not whole.
	ErrWrapped = errors.New("wrapped copy refused")
	// ErrOwned: another owner in this process holds the module (rule 1).
	ErrOwned = errors.New("the module has an owner already")
	// ErrSelfTest: a known-answer test failed; no traffic goes to the token (rule 8).
	ErrSelfTest = errors.New("known-answer test failed")
	// ErrRestart is what Token.Err wraps when the process must end with ExitRestart (rule 7).
	ErrRestart = errors.New("the process must restart")
	// ErrClosed: the Token was closed.
	ErrClosed = fmt.Errorf("%w: the token is closed", ErrUnavailable)
)

// ExitRestart is the exit status that asks the supervisor for a new process (rule 7): EX_TEMPFAIL.
const ExitRestart = 75

// Errors of this package's own calls. The first two are of the session class: the session is not trusted with another call.
// errRefused is of the PIN class, whatever code comes with it; errLeft of the device class, so that the library is finalized, which frees
// the objects of its sessions.
var (
	errLength     = errors.New("unexpected length")
	errWrittenOff = errors.New("the call passed its hang limit and is written off")
	errRefused    = errors.New("the PIN is refused, or may be")
	errLeft       = errors.New("a temporary object may be left in the token")
)

// errStillThere says that a token has an object that it said it destroyed: it is not to be trusted with another call.
var errStillThere = fmt.Errorf("the token still has the object that it destroyed: %w", pkcs11.Error(pkcs11.CKR_DEVICE_ERROR))

// errAgain marks an error of a start that the next start may not meet. Who gives it bounds how often.
var errAgain = errors.New("to be tried again")

// class is whose fault an error is, which decides what happens to the session and the generation (rules 3 to 5).
type class uint8

const (
	classNone    class = iota
	classRequest       // the caller's or this package's: the session is as good as before
	classSession       // the session is lost or in an unknown state: discard it, open another
	classStale         // login or object handles are gone: a new generation
	classDevice        // the device or the library: a new generation, by finalize and initialize if need be
	classPIN           // the PIN: latch
)

var classNames = [...]string{"none", "request", "session", "stale", "device", "pin"}

func (c class) String() string { return classNames[c] }

// classOf classifies by return code alone; no session is ever probed (rule 3). What is unknown is the device's.
func classOf(err error) class {
	if err == nil {
		return classNone
	}
	var code pkcs11.Error
	switch {
	case errors.Is(err, errRefused):
		return classPIN
	case errors.Is(err, errLeft):
		return classDevice
	case errors.Is(err, errLength), errors.Is(err, errWrittenOff):
		return classSession
	case !errors.As(err, &code):
		return classRequest
	}
	if c, known := returnCodes[code]; known {
		return c
	}
	return classDevice
}

// publicError makes of a token's error what callers tell apart. op names the step, never a value.
func publicError(op string, err error) error {
	switch classOf(err) {
	case classNone:
		return nil
	case classSession, classStale, classDevice:
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, op, err)
	case classPIN:
		return fmt.Errorf("%w: %s: %w", ErrPINLatched, op, err)
	}
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_MECHANISM_INVALID)) || errors.Is(err, pkcs11.Error(pkcs11.CKR_FUNCTION_NOT_SUPPORTED)) {
		return fmt.Errorf("%w: %s: %w", keyderive.ErrUnsupported, op, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}
