package hsm

/*
#cgo linux LDFLAGS: -ldl
#cgo noescape pk_derive
#cgo nocallback pk_derive
#cgo noescape pk_destroy
#cgo nocallback pk_destroy
#cgo noescape pk_encrypt
#cgo nocallback pk_encrypt
#cgo noescape pk_gcm
#cgo nocallback pk_gcm
#cgo noescape pk_combine
#cgo nocallback pk_combine
#include <stdlib.h>
#include "cryptoki.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// cryptoki is the module's function list, for the calls that touch key bytes, the PIN or the hot path (cryptoki.h). It
// holds no state; which session a call may use is its caller's to say.
//
// Rules of cgo kept here: every pointer passed is to bytes that hold no Go pointer, the module keeps none of them beyond the
// call, and the structures that do hold pointers are built on the C stack.
type cryptoki struct{ list *C.pk_list }

// tagSize is the length of the authentication tag that seal adds.
const tagSize = 16

// rights are what a key object may do; the template refuses all others.
type rights C.int

const (
	maySign     rights = C.PK_SIGN // CMAC
	mayEncrypt  rights = C.PK_ENCRYPT
	mayDecrypt  rights = C.PK_DECRYPT
	mayDerive   rights = C.PK_DERIVE
	mayWrap     rights = C.PK_WRAP
	mayUnwrap   rights = C.PK_UNWRAP
	onToken     rights = C.PK_TOKEN
	once        rights = C.PK_ONCE
	extractable rights = C.PK_OPEN
	private     rights = C.PK_PRIVATE // with extractable
)

// loadCryptoki finds the function list of the module at path, which the binding has loaded before.
func loadCryptoki(path string) (cryptoki, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var list *C.pk_list
	if err := asError(C.pk_load(name, &list)); err != nil {
		return cryptoki{}, fmt.Errorf("load module %q: %w", path, err)
	}
	if list.major != 2 {
		return cryptoki{}, fmt.Errorf("load module %q: cryptoki version %d.%d, expected 2", path, list.major, list.minor)
	}
	return cryptoki{list}, nil
}

func asError(rv C.pk_ulong) error {
	if rv == pkcs11.CKR_OK {
		return nil
	}
	return pkcs11.Error(rv)
}

// at is the address of the first byte, nil of none.
func at(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

func size(b []byte) C.pk_ulong { return C.pk_ulong(len(b)) }

// login passes the PIN from where it lies, locked memory, to the module: no Go string of it is made.
func (c cryptoki) login(s pkcs11.SessionHandle, pin []byte) error {
	return asError(C.pk_login(c.list, C.pk_ulong(s), at(pin), size(pin)))
}

// derive makes a key of the ECB encryption of data under base. valueLen is 0 where the key type fixes the length.
func (c cryptoki) derive(s pkcs11.SessionHandle, mechanism uint, base pkcs11.ObjectHandle, data []byte, keyType, valueLen uint, may rights) (pkcs11.ObjectHandle, error) {
	var key C.pk_ulong
	rv := C.pk_derive(c.list, C.pk_ulong(s), C.pk_ulong(mechanism), C.pk_ulong(base), at(data), size(data),
		C.pk_ulong(keyType), C.pk_ulong(valueLen), C.int(may), &key)
	return pkcs11.ObjectHandle(key), asError(rv)
}

// combine makes the key "base XOR other" by a vendor's mechanism whose parameter is the handle of other.
func (c cryptoki) combine(s pkcs11.SessionHandle, mechanism uint, base, other pkcs11.ObjectHandle, keyType uint, may rights) (pkcs11.ObjectHandle, error) {
	var key C.pk_ulong
	rv := C.pk_combine(c.list, C.pk_ulong(s), C.pk_ulong(mechanism), C.pk_ulong(base), C.pk_ulong(other),
		C.pk_ulong(keyType), C.int(may), &key)
	return pkcs11.ObjectHandle(key), asError(rv)
}

func (c cryptoki) destroy(s pkcs11.SessionHandle, object pkcs11.ObjectHandle) error {
	return asError(C.pk_destroy(c.list, C.pk_ulong(s), C.pk_ulong(object)))
}

// encrypt writes the encryption of in over out, which has the same length; another length of the result is an error (rule 10).
func (c cryptoki) encrypt(s pkcs11.SessionHandle, mechanism uint, key pkcs11.ObjectHandle, iv, in, out []byte) error {
	n := size(out)
	rv := C.pk_encrypt(c.list, C.pk_ulong(s), C.pk_ulong(mechanism), C.pk_ulong(key), at(iv), size(iv), at(in), size(in),
		at(out), &n)
	return lengthChecked(rv, n, out)
}

// sign writes the MAC of in into out, which must be exactly as long.
func (c cryptoki) sign(s pkcs11.SessionHandle, mechanism uint, key pkcs11.ObjectHandle, in, out []byte) error {
	n := size(out)
	rv := C.pk_sign(c.list, C.pk_ulong(s), C.pk_ulong(mechanism), C.pk_ulong(key), at(in), size(in), at(out), &n)
	return lengthChecked(rv, n, out)
}

// seal writes the authenticated encryption of in under an AES key of the token; sealed is 16 bytes longer.
func (c cryptoki) seal(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, iv, aad, in, sealed []byte) error {
	n := size(sealed)
	rv := C.pk_gcm(c.list, C.pk_ulong(s), 0, C.pk_ulong(key), at(iv), size(iv), at(aad), size(aad), at(in), size(in),
		at(sealed), &n)
	return lengthChecked(rv, n, sealed)
}

// open is the inverse. out is as long as sealed, because SoftHSM asks for that much room, and its last 16 bytes are left.
func (c cryptoki) open(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, iv, aad, sealed, out []byte) error {
	n := size(out)
	rv := C.pk_gcm(c.list, C.pk_ulong(s), 1, C.pk_ulong(key), at(iv), size(iv), at(aad), size(aad), at(sealed), size(sealed),
		at(out), &n)
	return lengthChecked(rv, n, out[:len(out)-tagSize])
}

// create puts a key of these bytes into the token, from where they lie.
func (c cryptoki) create(s pkcs11.SessionHandle, keyType uint, may rights, of name, value []byte) (pkcs11.ObjectHandle, error) {
	label, id := of.bytes()
	var key C.pk_ulong
	rv := C.pk_create(c.list, C.pk_ulong(s), C.pk_ulong(keyType), C.int(may), at(label), size(label), at(id), size(id), at(value), size(value), &key)
	return pkcs11.ObjectHandle(key), asError(rv)
}

// decrypt is the inverse of encrypt, by ECB.
func (c cryptoki) decrypt(s pkcs11.SessionHandle, mechanism uint, key pkcs11.ObjectHandle, in, out []byte) error {
	n := size(out)
	rv := C.pk_decrypt(c.list, C.pk_ulong(s), C.pk_ulong(mechanism), C.pk_ulong(key), at(in), size(in), at(out), &n)
	return lengthChecked(rv, n, out)
}

// wrap writes a key that may leave, encrypted under another, into out, which must be exactly as long.
func (c cryptoki) wrap(s pkcs11.SessionHandle, mechanism uint, wrapping, key pkcs11.ObjectHandle, out []byte) error {
	n := size(out)
	rv := C.pk_wrap(c.list, C.pk_ulong(s), C.pk_ulong(mechanism), C.pk_ulong(wrapping), C.pk_ulong(key), at(out), &n)
	return lengthChecked(rv, n, out)
}

// unwrap makes a key of what wrap wrote.
func (c cryptoki) unwrap(s pkcs11.SessionHandle, mechanism uint, unwrapping pkcs11.ObjectHandle, wrapped []byte, keyType uint, may rights, of name) (pkcs11.ObjectHandle, error) {
	label, id := of.bytes()
	var key C.pk_ulong
	rv := C.pk_unwrap(c.list, C.pk_ulong(s), C.pk_ulong(mechanism), C.pk_ulong(unwrapping), at(wrapped), size(wrapped), C.pk_ulong(keyType),
		C.int(may), at(label), size(label), at(id), size(id), &key)
	return pkcs11.ObjectHandle(key), asError(rv)
}

// random fills out from the token's generator.
func (c cryptoki) random(s pkcs11.SessionHandle, out []byte) error {
	return asError(C.pk_random(c.list, C.pk_ulong(s), at(out), size(out)))
}

// generate makes a random key of valueLen bytes inside the token.
func (c cryptoki) generate(s pkcs11.SessionHandle, mechanism, valueLen, keyType uint, may rights, label string) (pkcs11.ObjectHandle, error) {
	name := []byte(label)
	var key C.pk_ulong
	rv := C.pk_generate(c.list, C.pk_ulong(s), C.pk_ulong(mechanism), C.pk_ulong(valueLen), C.pk_ulong(keyType), C.int(may),
		at(name), size(name), &key)
	return pkcs11.ObjectHandle(key), asError(rv)
}

// value reads CKA_VALUE into out, which must be exactly as long; only keys made extractable have one to read.
func (c cryptoki) value(s pkcs11.SessionHandle, object pkcs11.ObjectHandle, out []byte) error {
	n := size(out)
	rv := C.pk_value(c.list, C.pk_ulong(s), C.pk_ulong(object), at(out), &n)
	return lengthChecked(rv, n, out)
}

func lengthChecked(rv, n C.pk_ulong, out []byte) error {
	if err := asError(rv); err != nil {
		return err
	}
	if n != size(out) {
		return fmt.Errorf("%w: the token wrote %d bytes, expected %d", errLength, uint64(n), len(out))
	}
	return nil
}
