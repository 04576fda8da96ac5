package hsm

import (
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// line is a place from which one call at a time goes into the library (rule 3), and how long it has been there.
//
// inside is 0 between calls, the call's start while one is inside, lineHung once the watcher wrote that call off, and
// lineDead when the line takes no more calls. Its goroutine and the watcher change it, only by compare-and-swap: exactly one of
// them decides how a call ended.
type line struct {
	inside atomic.Int64
	hung   *atomic.Int64 // of the Token: calls that were written off and are still inside the library
}

const (
	lineHung = -1
	lineDead = -2
)

// clock counts from the start of the process, and never yields 0.
var epoch = time.Now()

func clock() int64 { return int64(time.Since(epoch)) + 1 }

// enter opens a call; after an error no call may be made. leave closes it.
func (l *line) enter() (start int64, err error) {
	start = clock()
	if !l.inside.CompareAndSwap(0, start) {
		return 0, errWrittenOff
	}
	return start, nil
}

// leave returns the call's own error, or that it had been written off: its outcome is then certain to nobody.
func (l *line) leave(start int64, err error) error {
	if l.inside.CompareAndSwap(start, 0) {
		return err
	}
	l.inside.Store(lineDead)
	l.hung.Add(-1)
	return errWrittenOff
}

// call makes one call, for those where a closure costs nothing that matters.
func (l *line) call(f func() error) error {
	start, err := l.enter()
	if err != nil {
		return err
	}
	return l.leave(start, f())
}

// writeOff gives a call up that has been inside for longer than limit. The library still runs it.
func (l *line) writeOff(now int64, limit time.Duration) bool {
	start := l.inside.Load()
	if start <= 0 || time.Duration(now-start) <= limit {
		return false
	}
	l.hung.Add(1) // before the swap: leave takes it back
	if !l.inside.CompareAndSwap(start, lineHung) {
		l.hung.Add(-1)
		return false
	}
	return true
}

// retire takes the line out of use when no call is inside, for good.
func (l *line) retire() bool {
	return l.inside.CompareAndSwap(0, lineDead) || l.inside.Load() == lineDead
}

// session is one PKCS#11 session; one goroutine owns it.
type session struct {
	line
	module *module
	handle pkcs11.SessionHandle
	// batch is locked memory for the card keys of one C_Encrypt over many cards (batch.go). They are copied out and it is
	// cleared in the same job; reserve takes the memory, and it goes back when the session's worker ends.
	batch secret.Bytes
}

// open opens the session; a right to write is for the anchor alone, which makes token objects.
func (s *session) open(slot uint, write bool) error {
	flags := uint(pkcs11.CKF_SERIAL_SESSION)
	if write {
		flags |= pkcs11.CKF_RW_SESSION
	}
	return s.call(func() (err error) {
		s.handle, err = s.module.ctx.OpenSession(slot, flags)
		return err
	})
}

// loggedIn reports whether the user's login holds, asked of a fresh session after another was lost: not a probe before use.
func (s *session) loggedIn() (yes bool, err error) {
	err = s.call(func() error {
		info, err := s.module.ctx.GetSessionInfo(s.handle)
		yes = info.State == pkcs11.CKS_RO_USER_FUNCTIONS || info.State == pkcs11.CKS_RW_USER_FUNCTIONS
		return err
	})
	return yes, err
}

func (s *session) login(pin secret.Bytes) error {
	return s.call(func() error {
		return s.module.cryptoki.login(s.handle, pin.Reveal("to log in to the token"))
	})
}

func (s *session) derive(mechanism uint, base pkcs11.ObjectHandle, data []byte, keyType, valueLen uint, may rights) (pkcs11.ObjectHandle, error) {
	start, err := s.enter()
	if err != nil {
		return 0, err
	}
	key, err := s.module.cryptoki.derive(s.handle, mechanism, base, data, keyType, valueLen, may)
	return key, s.leave(start, err)
}

func (s *session) combine(mechanism uint, base, other pkcs11.ObjectHandle, keyType uint, may rights) (key pkcs11.ObjectHandle, err error) {
	err = s.call(func() error {
		key, err = s.module.cryptoki.combine(s.handle, mechanism, base, other, keyType, may)
		return err
	})
	return key, err
}

func (s *session) destroy(object pkcs11.ObjectHandle) error {
	start, err := s.enter()
	if err != nil {
		return err
	}
	return s.leave(start, s.module.cryptoki.destroy(s.handle, object))
}

func (s *session) encrypt(mechanism uint, key pkcs11.ObjectHandle, iv, in, out []byte) error {
	start, err := s.enter()
	if err != nil {
		return err
	}
	return s.leave(start, s.module.cryptoki.encrypt(s.handle, mechanism, key, iv, in, out))
}

func (s *session) seal(key pkcs11.ObjectHandle, iv, aad, in, sealed []byte) error {
	return s.call(func() error { return s.module.cryptoki.seal(s.handle, key, iv, aad, in, sealed) })
}

func (s *session) unseal(key pkcs11.ObjectHandle, iv, aad, sealed, out []byte) error {
	return s.call(func() error { return s.module.cryptoki.open(s.handle, key, iv, aad, sealed, out) })
}

func (s *session) create(keyType uint, may rights, of name, value secret.Bytes) (key pkcs11.ObjectHandle, err error) {
	err = s.call(func() error {
		key, err = s.module.cryptoki.create(s.handle, keyType, may, of, value.Reveal("to put it into the token"))
		return err
	})
	return key, err
}

func (s *session) generate(mechanism, valueLen, keyType uint, may rights, label string) (key pkcs11.ObjectHandle, err error) {
	err = s.call(func() error {
		key, err = s.module.cryptoki.generate(s.handle, mechanism, valueLen, keyType, may, label)
		return err
	})
	return key, err
}

func (s *session) decrypt(mechanism uint, key pkcs11.ObjectHandle, in, out []byte) error {
	return s.call(func() error { return s.module.cryptoki.decrypt(s.handle, mechanism, key, in, out) })
}

func (s *session) wrap(mechanism uint, wrapping, key pkcs11.ObjectHandle, out []byte) error {
	return s.call(func() error { return s.module.cryptoki.wrap(s.handle, mechanism, wrapping, key, out) })
}

func (s *session) unwrap(mechanism uint, unwrapping pkcs11.ObjectHandle, wrapped []byte, keyType uint, may rights, of name) (key pkcs11.ObjectHandle, err error) {
	err = s.call(func() error {
		key, err = s.module.cryptoki.unwrap(s.handle, mechanism, unwrapping, wrapped, keyType, may, of)
		return err
	})
	return key, err
}

func (s *session) random(out secret.Bytes) error {
	return s.call(func() error {
		return s.module.cryptoki.random(s.handle, out.Reveal("to receive the token's random bytes"))
	})
}

func (s *session) value(object pkcs11.ObjectHandle, out []byte) error {
	return s.call(func() error { return s.module.cryptoki.value(s.handle, object, out) })
}
