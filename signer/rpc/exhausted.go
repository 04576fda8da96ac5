package rpc

import (
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/signer/admission"
)

// retryAfter is the header, and of gRPC the trailer, that says after how many seconds it may be worth another try (RFC 9110 §10.2.3).
const retryAfter = "Retry-After"

// exhausted is the error on the wire of what admission refused.
func exhausted(refused *admission.Refused) *connect.Error {
	return again(refusedError{refused}, refused.After)
}

// again is resource_exhausted, with the time after which it may be worth another try: rounded up to seconds, and at least one.
func again(why error, after time.Duration) *connect.Error {
	coded := connect.NewError(connect.CodeResourceExhausted, why)
	coded.Meta().Set(retryAfter, strconv.FormatInt(max(int64(math.Ceil(after.Seconds())), 1), 10))
	return coded
}

// quietFor is how often the log says that a client is refused: its flood is not to fill the log too.
const quietFor = time.Second

// floods count what the log has not said yet, by client.
type floods struct {
	mu     sync.Mutex
	counts map[string]*unsaid
}

type unsaid struct {
	said  time.Time
	since int // refused since, and not in the log
}

// count counts one, and reports how many the log is to say now; 0: none.
func (r *floods) count(client string, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.counts[client]
	if one == nil {
		one = &unsaid{}
		r.counts[client] = one
	}
	one.since++
	if now.Sub(one.said) < quietFor {
		return 0
	}
	n := one.since
	one.said, one.since = now, 0
	return n
}

// refuseBusy answers what admission refused, as cheaply as can be: its body stays unread, the record and mostly the log hear nothing of it.
// Other errors are those of a batch that did not come whole, or in time to a slot.
func (s *service) refuseBusy(w http.ResponseWriter, r *http.Request, write *connect.ErrorWriter, caller policy.Caller, err error) {
	coded, method := wire(err), s.methodAt(r.URL.Path)
	var refused *admission.Refused
	if !errors.As(err, &refused) {
		s.unread(r, caller, coded.Code().String(), err)
	} else {
		s.metrics.requests.WithLabelValues(method, coded.Code().String(), "").Inc()
		if n := s.floods.count(refused.Client, time.Now()); n > 0 {
			s.log.LogAttrs(r.Context(), slog.LevelWarn, "requests refused", slog.String("client", refused.Client), slog.String("method", method),
				slog.String("bound", refused.Bound.String()), slog.Float64("limit", refused.Limit), slog.Int("requests", n))
		}
	}
	_ = write.Write(w, r, coded)
}
