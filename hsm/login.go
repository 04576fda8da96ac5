package hsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"
)

// pinTimeout bounds the wait for Config.PIN.
const pinTimeout = 30 * time.Second

// errLastTry keeps the last PIN try for a person.
var errLastTry = errors.New("one PIN try is left")

// login logs the user in, once in the generation (rule 2). The token's own account of its PIN is heeded first, so that no try is
// wasted: a locked PIN is not tried at all, and the last try is made only after Unlatch. What it answers is judged by answered.
func (t *Token) login(anchor *session, flags uint) error {
	if flags&pkcs11.CKF_USER_PIN_LOCKED != 0 {
		return fmt.Errorf("log in: %w", pkcs11.Error(pkcs11.CKR_PIN_LOCKED))
	}
	if flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0 && !t.ordered.Load() {
		return fmt.Errorf("log in: %w: %w", errLastTry, pkcs11.Error(pkcs11.CKR_PIN_LOCKED))
	}
	ctx, cancel := context.WithTimeout(t.life, pinTimeout)
	defer cancel()
	pin, err := t.config.PIN(ctx) // in locked memory, from the source to the end of this function
	if err != nil {
		return fmt.Errorf("log in: ask for the PIN: %w", err)
	}
	defer pin.Wipe()
	if pin.Len() == 0 {
		return errors.New("log in: ask for the PIN: it is empty")
	}
	err = anchor.login(pin)
	t.ordered.Store(false)
	return t.answered(err)
}

// unjudged are the answers of C_Login which say that the PIN was not looked at: the session, the token or the library was not
// there. The same PIN may follow them without end. A device error is among them because a token that starts up gives it for minutes;
// a token that gives it for a wrong PIN would be no token of the standard.
var unjudged = map[pkcs11.Error]bool{
	pkcs11.CKR_SESSION_CLOSED:                 true,
	pkcs11.CKR_SESSION_HANDLE_INVALID:         true,
	pkcs11.CKR_SLOT_ID_INVALID:                true,
	pkcs11.CKR_TOKEN_NOT_PRESENT:              true,
	pkcs11.CKR_TOKEN_NOT_RECOGNIZED:           true,
	pkcs11.CKR_DEVICE_REMOVED:                 true,
	pkcs11.CKR_DEVICE_ERROR:                   true,
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED:       true,
	pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: true,
	pkcs11.CKR_USER_TOO_MANY_TYPES:            true,
}

// doubtful are the answers that say nothing of the PIN: SoftHSM gives the first when two processes log in to one token at once, and
// a token may as well mean a wrong PIN. maxDoubtful of them, since a login succeeded, latch: fewer than the tries that tokens have.
var doubtful = map[pkcs11.Error]bool{
	pkcs11.CKR_GENERAL_ERROR:   true,
	pkcs11.CKR_FUNCTION_FAILED: true,
	pkcs11.CKR_HOST_MEMORY:     true,
	pkcs11.CKR_DEVICE_MEMORY:   true,
}

const maxDoubtful = 3

// answered says what a login's answer means for the PIN (rule 5). Every answer that does not say that the PIN was left unjudged
// latches, whatever its code: a vendor's "wrong PIN" is not in the standard's list. The count of the doubtful is not set back by
// an Unlatch, so that a login that an operator ordered is one.
func (t *Token) answered(err error) error {
	var code pkcs11.Error
	switch {
	case err == nil, isCode(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
		t.doubts = 0
		return nil
	case !errors.As(err, &code), unjudged[code]: // no code: the watcher wrote the call off, and the process ends
		return fmt.Errorf("log in: %w", err)
	case doubtful[code]:
		if t.doubts++; t.doubts < maxDoubtful {
			return fmt.Errorf("log in: %w: %w", errAgain, err)
		}
	}
	return fmt.Errorf("log in: %w: %w", errRefused, err)
}

func isCode(err error, code uint) bool { return errors.Is(err, pkcs11.Error(code)) }
