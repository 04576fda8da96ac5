package store_test

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/store/pgtest"
)

// proxy is a network between a store and its server, which a test may cut, at COMMIT too.
type proxy struct {
	t      testing.TB
	server string // address
	lines  net.Listener
	mu     sync.Mutex // guards all below
	open   map[net.Conn]net.Conn
	dark   bool // nothing is taken, nor passed on; nobody is told
	plan   plan
	late   []byte        // what was kept of a client that is gone
	left   []net.Conn    // to the server, of such
	done   chan struct{} // closed when the plan was carried out
	// turns counts how often a client spoke after its server had: round trips.
	turns atomic.Int64
}

// plan is what happens to the next COMMIT that passes.
type plan int

const (
	passOn     plan = iota
	cutBefore       // it does not reach the server, and both sides see the connection end
	cutAfter        // it reaches the server, whose answer is dropped before both see the end
	darkBefore      // it does not reach the server, and nobody sees anything
	darkAfter       // it reaches the server, whose answer does not come back, and nobody sees anything
	lateAfter       // the client sees the end, the server sees nothing, and it reaches the server when the test delivers it
	neverAfter      // the same, and it never does
)

// newProxy stands before a server; url is that of a database over it.
func newProxy(t testing.TB, server *pgtest.Server, database string) (p *proxy, address string) {
	lines, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p = &proxy{t: t, server: fmt.Sprintf("127.0.0.1:%d", server.Port), lines: lines, open: map[net.Conn]net.Conn{}}
	t.Cleanup(func() {
		_ = lines.Close()
		p.cut()
	})
	go p.accept()
	u, err := url.Parse(database)
	require.NoError(t, err)
	return p, fmt.Sprintf("postgresql://postgres@%s%s?sslmode=disable", lines.Addr(), u.Path)
}

func (p *proxy) accept() {
	for {
		client, err := p.lines.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.open[client] = server
		p.mu.Unlock()
		var clientSpoke atomic.Bool
		go p.pass(client, server, func(sent []byte) bool {
			if !clientSpoke.Swap(true) {
				p.turns.Add(1)
			}
			return p.towards(client, server, sent)
		})
		go p.pass(server, client, func([]byte) bool {
			clientSpoke.Store(false)
			return p.isDark()
		})
	}
}

// abandoned says that nobody is to be told of the connection's end.
func (p *proxy) abandoned(server net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dark || slices.Contains(p.left, server)
}

// deliver passes on what was kept of a client that is gone.
func (p *proxy) deliver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.left[len(p.left)-1].Write(p.late)
	require.NoError(p.t, err)
}

// pass copies until one side ends. What keep says is kept goes nowhere.
func (p *proxy) pass(from, to net.Conn, keep func([]byte) bool) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			if !p.abandoned(to) {
				_, _ = from.Close(), to.Close()
			}
			return
		}
		if keep(buffer[:n]) {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil && !p.abandoned(from) {
			_ = from.Close()
			return
		}
	}
}

// towards carries out the plan when a COMMIT is in what a client sent, and says whether that is kept.
func (p *proxy) towards(client, server net.Conn, sent []byte) (kept bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dark {
		return true
	}
	plan := p.plan
	if plan == passOn || !bytes.Contains(sent, commitMark) {
		return false
	}
	p.plan = passOn
	defer close(p.done)
	switch plan {
	case cutBefore:
		_, _ = client.Close(), server.Close()
	case lateAfter, neverAfter:
		delete(p.open, client)
		p.left = append(p.left, server)
		p.late = bytes.Clone(sent)
		_ = client.Close()
	case darkBefore:
		p.dark = true
	case darkAfter, cutAfter:
		_, err := server.Write(sent)
		require.NoError(p.t, err)
		if plan == darkAfter {
			p.dark = true
			break
		}
		_ = client.Close() // the server's own end follows when it has answered to nobody
	}
	return true
}

// commitMark is in an audit entry of the group whose COMMIT the plan is for: entries go to the server in one message with COMMIT.
var commitMark = []byte("CUT-HERE")

func (p *proxy) isDark() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dark
}

// next plans what happens to the next marked group.
func (p *proxy) next(plan plan) (done chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.done = plan, make(chan struct{})
	return p.done
}

// light ends the dark: new connections work, the old ones are of a network that is no more.
func (p *proxy) light() {
	p.mu.Lock()
	p.dark = false
	p.mu.Unlock()
}

// cut ends all connections, visibly to both sides.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.open {
		_, _ = client.Close(), server.Close()
		delete(p.open, client)
	}
	for _, server := range p.left {
		_ = server.Close()
	}
}
