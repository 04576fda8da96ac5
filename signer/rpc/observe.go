package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/internal/peers"
	"github.com/pursekeeper/pursekeeper/policy"
)

// Metrics are the service's own counters; their labels are the API's methods, codes and outcomes, never a caller's words.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	alarms   *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

// NewMetrics registers the counters.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pursekeeper_requests_total", Help: "Requests by method, code and outcome.",
		}, []string{"method", "code", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pursekeeper_request_seconds", Help: "Time from the request to its answer.",
			Buckets: []float64{.0005, .001, .002, .003, .005, .01, .02, .05, .1, .5, 1, 5},
		}, []string{"method"}),
		alarms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pursekeeper_alarms_total", Help: "Recorded alarms by event.",
		}, []string{"event"}),
	}
	m.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pursekeeper_certificates_refused_total", Help: "Requests and streams refused for their client certificate, by reason.",
	}, []string{"reason"})
	for _, reason := range peers.Reasons() {
		m.refused.WithLabelValues(string(reason))
	}
	for _, event := range audit.Alarms() { // an alert sees a count grow, not one that begins
		m.alarms.WithLabelValues(string(event))
	}
	r.MustRegister(m.requests, m.seconds, m.alarms, m.refused)
	return m
}

// Alarm counts an alarm whose entry is durable.
func (m *Metrics) Alarm(event audit.Event) { m.alarms.WithLabelValues(string(event)).Inc() }

// outcomer is an answer that has an outcome.
type outcomer interface{ GetOutcome() v1.Outcome }

// observed accounts for each request that is one message.
func (s *service) observed(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (response connect.AnyResponse, err error) {
		arrivalOf(ctx).read = true
		coded := s.account(ctx, methodOf(request.Spec().Procedure), func(ctx context.Context) (any, error) {
			passes := &arrivalOf(ctx).passes
			if err := passes.wait(ctx); err != nil {
				return nil, err
			}
			response, err = next(ctx, request)
			passes.done()
			if err != nil {
				return nil, err
			}
			return response.Any(), nil
		})
		if coded != nil {
			return response, coded
		}
		return response, nil
	}
}

// account gives a request its deadline, turns its error into a code, counts it and logs it. The log line holds names, codes and
// times: no field of the request but the outcome, so no MAC, no PIN and no card number.
func (s *service) account(ctx context.Context, method string, run func(context.Context) (answer any, err error)) *connect.Error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := run(ctx)

	code, outcome := "ok", ""
	level := slog.LevelInfo
	var coded *connect.Error
	if err != nil {
		coded = wire(err)
		code = coded.Code().String()
		level = slog.LevelWarn
		if coded.Code() == connect.CodeInternal {
			level = slog.LevelError
			s.log.LogAttrs(ctx, level, "internal error", slog.String("method", method), slog.Any("error", err))
		}
	} else if answer, ok := answer.(outcomer); ok {
		outcome = answer.GetOutcome().String()
	}
	s.metrics.requests.WithLabelValues(method, code, outcome).Inc()
	s.metrics.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
	s.log.LogAttrs(ctx, level, "request",
		slog.String("method", method), slog.String("client", callerOf(ctx).Name()), slog.String("code", code),
		slog.String("outcome", outcome), slog.Duration("took", time.Since(start)))
	return coded
}

// Labels of what no handler saw.
const (
	codeMalformed = "malformed" // no such method, content type or encoding, or a body that is no message of the method
	methodUnknown = "unknown"
)

// unread accounts for a request that was refused before its message was read. What the caller wrote is not in the log: its
// path is, when it is a method of the API.
func (s *service) unread(r *http.Request, caller policy.Caller, code string, cause error) {
	method := s.methodAt(r.URL.Path)
	s.metrics.requests.WithLabelValues(method, code, "").Inc()
	attributes := []slog.Attr{
		slog.String("method", method), slog.String("client", caller.Name()), slog.String("code", code),
		slog.String("from", r.RemoteAddr),
	}
	if cause != nil {
		attributes = append(attributes, slog.Any("error", cause))
	}
	s.log.LogAttrs(r.Context(), slog.LevelWarn, "request refused unread", attributes...)
}

// methodAt is the method of a path, methodUnknown where there is none.
func (s *service) methodAt(path string) string {
	if method, known := s.methods[path]; known {
		return method
	}
	return methodUnknown
}

// methods are the API's methods by their paths.
func methods(files ...protoreflect.FileDescriptor) map[string]string {
	all := map[string]string{}
	for _, file := range files {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				name := string(service.Methods().Get(j).Name())
				all["/"+string(service.FullName())+"/"+name] = name
			}
		}
	}
	return all
}

// frames is where a panic came from: functions and lines. A whole stack trace would show arguments, and some are MACs.
func frames(skip int) (where []string) {
	const deepest = 12
	counters := make([]uintptr, deepest)
	walk := runtime.CallersFrames(counters[:runtime.Callers(skip, counters)])
	for {
		frame, more := walk.Next()
		where = append(where, fmt.Sprintf("%s:%d", frame.Function, frame.Line))
		if !more {
			return where
		}
	}
}
