package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Limits of a connection. A request's own deadline is Config.Timeout.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 15 * time.Second
	writeTimeout   = 2 * time.Minute // a caller that does not read its answer; longer than any request's own deadline should be
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	maxStreams     = 100 // of one connection at once: requests, and streams that wait for their callers
)

// NewServer is the public listener's server: TLS 1.3, and a client certificate that the handler's peers verify.
func NewServer(handler *Handler, log *slog.Logger) *http.Server {
	server := &http.Server{
		Handler:           handler,
		TLSConfig:         handler.service.peers.TLS(),
		ConnContext:       handler.service.peers.ConnContext,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(handler.stop)
	return server
}

// NewAdmin is the admin listener's server: /healthz, /readyz, /metrics and pprof. ready is asked for each /readyz: it
// looks at every key.
func NewAdmin(ready func(context.Context) error, gatherer prometheus.Gatherer, log *slog.Logger) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := ready(r.Context()); err != nil {
			log.Warn("not ready", "error", err)
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// Serve runs both servers until ctx ends or one of them fails, then stops them gracefully: what is in flight is finished,
// for at most grace. What is not finished then is cut off, and Serve returns an error.
func Serve(ctx context.Context, public, admin *http.Server, publicListener, adminListener net.Listener, grace time.Duration) error {
	failed := make(chan error, 2)
	go func() { failed <- public.ServeTLS(publicListener, "", "") }()
	go func() { failed <- admin.Serve(adminListener) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	err = errors.Join(err, stop(grace, public, admin))
	// A server that had not come to its listener when it was shut down leaves it open.
	for _, listener := range []net.Listener{publicListener, adminListener} {
		if closed := listener.Close(); !errors.Is(closed, net.ErrClosed) {
			err = errors.Join(err, closed)
		}
	}
	return err
}

// stop ends servers side by side, so that a slow one does not use up the time of another.
func stop(grace time.Duration, servers ...*http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	outcomes := make(chan error, len(servers))
	for _, server := range servers {
		go func() {
			err := server.Shutdown(ctx)
			if err != nil {
				err = errors.Join(fmt.Errorf("requests were cut off after %v: %w", grace, err), server.Close())
			}
			outcomes <- err
		}()
	}
	var err error
	for range servers {
		err = errors.Join(err, <-outcomes)
	}
	return err
}
