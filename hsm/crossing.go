package hsm

/*
#cgo noescape pk_exchange_all
#cgo nocallback pk_exchange_all
#include "exchange.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/keyderive"
)

// longestText is the longest padded text of a MAC that a crossing carries.
const longestText = C.PK_TEXT

// crossing is the memory of the exchanges that go into the library at once (exchange.h): card numbers, texts and MACs, no key. Its
// worker owns it; the call writes it while it is inside, and nothing afterwards.
type crossing struct{ list [mostExchanges]C.pk_exchange }

// put writes the i-th exchange. The lengths of its texts were checked.
func (c *crossing) put(i int, x *exchange) {
	d := &x.entry.dialect
	to := &c.list[i]
	*to = C.pk_exchange{
		base: C.pk_ulong(x.parent.key), derive: C.pk_ulong(d.deriveECB), cbc: C.pk_ulong(d.cbc), key_type: C.pk_ulong(d.keyType),
		block: C.pk_ulong(d.alg.BlockSize()), proof_len: size(x.proof), issue_len: size(x.issue),
	}
	card, n := d.input(x.card)
	session, _ := d.input(x.session)
	to.input_len = C.pk_ulong(n)
	fill(to.card[:], card[:n])
	fill(to.session[:], session[:n])
	fill(to.proof[:], x.proof)
	fill(to.issue[:], x.issue)
	fill(to.got[:], x.got[:])
}

func fill(to []C.uchar, from []byte) {
	copy(unsafe.Slice((*byte)(unsafe.SliceData(to)), len(to)), from)
}

// take reads how the i-th ended: what its caller gets, and the token's error, which there may be beside an answer that is certain.
func (c *crossing) take(i int) (issued keyderive.MAC, result, fault error) {
	from := &c.list[i]
	op, fault := failureOf(from)
	switch {
	case from.state == C.PK_DIFFERENT:
		return issued, keyderive.ErrMismatch, fault
	case fault != nil:
		return issued, publicError(op, fault), fault
	case from.state != C.PK_ISSUED:
		return issued, errNotAnswered, errNotAnswered
	}
	for i := range issued {
		issued[i] = byte(from.issued[i])
	}
	return issued, nil, nil
}

// errNotAnswered is no answer without an error of the token: a bug, which is not to pass for an answer.
var errNotAnswered = errors.New("the exchange was not answered")

func failureOf(x *C.pk_exchange) (op string, fault error) {
	switch x.at {
	case C.PK_AT_NONE:
		return "", nil
	case C.PK_AT_DERIVE:
		return "derive key", asError(x.fault)
	case C.PK_AT_ENCRYPT:
		return "encrypt", asError(x.fault)
	case C.PK_AT_LENGTH:
		return "encrypt", fmt.Errorf("%w: the token wrote %d bytes", errLength, uint64(x.fault))
	case C.PK_AT_DESTROY:
		return "use the token", fmt.Errorf("destroy derived key: %w", asError(x.fault))
	}
	return "use the token", errWrittenOff
}

// exchange answers the first n of c in one crossing, until one meets a fault or it takes long, and says how many it touched: at least one.
// The error is that the line was written off meanwhile: nothing is then certain of any of them.
func (s *session) exchange(c *crossing, n int) (touched int, err error) {
	start, err := s.enter()
	if err != nil {
		return 0, err
	}
	touched, start = s.module.cryptoki.exchange(s.handle, &s.line, start, c, n)
	return touched, s.leave(start, nil)
}

// exchange keeps line.inside up to date from inside the crossing, call by call, as enter and leave do.
func (c cryptoki) exchange(s pkcs11.SessionHandle, l *line, start int64, with *crossing, n int) (touched int, last int64) {
	at := C.int64_t(start)
	inside := (*C.int64_t)(unsafe.Pointer(&l.inside))
	touched = int(C.pk_exchange_all(c.list, C.pk_ulong(s), inside, &at, C.int64_t(longCrossing), &with.list[0], C.pk_ulong(n)))
	return touched, int64(at)
}
