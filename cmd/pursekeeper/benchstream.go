package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/signer"
)

// pipes are streams of Transact that the callers of a measurement share.
type pipes struct {
	all  []*pipe
	turn atomic.Uint64
}

// pipe is one stream. Callers send on it one at a time; one goroutine receives and hands each answer to its caller by ref.
type pipe struct {
	stream  *connect.BidiStreamForClientSimple[v1.TransactRequest, v1.TransactResponse]
	sending sync.Mutex

	mu      sync.Mutex // guards what follows
	next    uint64
	waiting map[string]chan *v1.TransactResponse
	ended   error
}

func openPipes(ctx context.Context, c *connections) (*pipes, error) {
	all := &pipes{}
	for _, client := range c.clients {
		stream, err := client.Transact(ctx)
		if err != nil {
			return nil, err
		}
		p := &pipe{stream: stream, waiting: map[string]chan *v1.TransactResponse{}}
		go p.receive()
		all.all = append(all.all, p)
	}
	return all, nil
}

func (p *pipe) receive() {
	for {
		answer, err := p.stream.Receive()
		p.mu.Lock()
		if err != nil {
			p.ended = err
			for _, caller := range p.waiting {
				close(caller)
			}
			p.mu.Unlock()
			return
		}
		caller := p.waiting[answer.Ref]
		delete(p.waiting, answer.Ref)
		p.mu.Unlock()
		if caller != nil {
			caller <- answer
		}
	}
}

// ask sends one request and waits for its answer.
func (p *pipe) ask(ctx context.Context, m *v1.TransactRequest) (*v1.TransactResponse, error) {
	caller := make(chan *v1.TransactResponse, 1)
	p.mu.Lock()
	if p.ended != nil {
		p.mu.Unlock()
		return nil, p.ended
	}
	p.next++
	m.Ref = strconv.FormatUint(p.next, 10)
	p.waiting[m.Ref] = caller
	p.mu.Unlock()
	p.sending.Lock()
	err := p.stream.Send(m)
	p.sending.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case answer, ok := <-caller:
		if !ok {
			return nil, errors.New("the stream ended")
		}
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) authorize(ctx context.Context, r signer.LoadRequest) (string, error) {
	one := p.all[p.turn.Add(1)%uint64(len(p.all))]
	answer, err := one.ask(ctx, &v1.TransactRequest{Request: &v1.TransactRequest_AuthorizeLoad{AuthorizeLoad: loadMessage(r)}})
	if err != nil {
		return "", err
	}
	if e := answer.GetError(); e != nil {
		return "", fmt.Errorf("%s: %s", e.Code, e.Message)
	}
	return strings.TrimPrefix(answer.GetAuthorizeLoad().GetOutcome().String(), "OUTCOME_"), nil
}
