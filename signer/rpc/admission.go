package rpc

import (
	"context"
	"fmt"
	"math"

	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/signer/admission"
)

// AdmissionConfig is what an operator decides of how clients share the service. The zero value has the defaults.
type AdmissionConfig struct {
	// Slots is how many requests are worked on at once, but for batches, of all clients; 0: DefaultSlots.
	Slots int
	// Default are the bounds of each client's requests; a Queue of 0 is Slots.
	Default admission.Limits
	// Clients are the bounds of some, by name, in place of Default.
	Clients map[string]admission.Limits
}

// DefaultSlots is enough to keep a token of few sessions busy while the last requests' records become durable.
const DefaultSlots = 64

// Bounds of what takes long, of one client.
const (
	batchesWaiting  = 4  // each with its bytes in memory, undecoded
	streamsOfClient = 32 // each with 64 requests in flight and one that waits
	exportsOfClient = 1
)

// What admission counts, by the label of its metrics.
const (
	lineRequests = "requests"
	lineBatches  = "batches"
	lineStreams  = "streams"
	lineExports  = "exports"
)

// Admission shares the service fairly among its clients: requests, batches of TACs, streams and exports each have a queue, and long work
// takes the processors in turns, as signer.Turns has it. Whoever is beyond a bound of its own is refused at once.
type Admission struct {
	requests, batches, streams, exports, turns *admission.Queue
}

// NewAdmission validates c.
func NewAdmission(c AdmissionConfig) (*Admission, error) {
	if c.Slots == 0 {
		c.Slots = DefaultSlots
	}
	if c.Default.Queue == 0 {
		c.Default.Queue = c.Slots
	}
	about := &admission.About{}
	processors := hsm.Processors()
	rest := max(1, processors/2) // of the processors, for long work, while several clients are about
	a := &Admission{}
	for _, q := range []struct {
		queue  **admission.Queue
		config admission.Config
	}{
		{&a.requests, admission.Config{Slots: c.Slots, Default: c.Default, Clients: c.Clients}},
		{&a.batches, admission.Config{Slots: max(2, processors), Shared: rest, Default: admission.Limits{Queue: batchesWaiting}}},
		{&a.streams, admission.Config{Slots: 1, Default: admission.Limits{Queue: streamsOfClient}}},
		{&a.exports, admission.Config{Slots: exportsAtOnce, Default: admission.Limits{Queue: exportsAtOnce, Concurrency: exportsOfClient}}},
		{&a.turns, admission.Config{Slots: processors, Shared: rest, Default: admission.Limits{Queue: math.MaxInt}}},
	} {
		q.config.About = about
		var err error
		if *q.queue, err = admission.New(q.config); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// defaultAdmission has what the zero AdmissionConfig says, which is valid.
func defaultAdmission() *Admission {
	a, err := NewAdmission(AdmissionConfig{})
	if err != nil {
		panic(err)
	}
	return a
}

// Take is a turn of signer.Turns.
func (a *Admission) Take(ctx context.Context, client string) (done func(), err error) {
	turn, err := a.turns.Enter(client)
	if err != nil {
		return nil, err
	}
	if err := turn.Wait(ctx, 1); err != nil {
		turn.Leave()
		return nil, err
	}
	return turn.Leave, nil
}

var _ signer.Turns = (*Admission)(nil)

// The methods that are admitted in their own way.
var (
	methodTransact   = methodOf(pursekeeperv1connect.SignerServiceTransactProcedure)
	methodVerifyTacs = methodOf(pursekeeperv1connect.SignerServiceVerifyTacsProcedure)
)

// tacsOfCost is how many TACs cost what a load does.
const tacsOfCost = 64

// costOf is the cost of n TACs.
func costOf(n int) int { return max(1, (n+tacsOfCost-1)/tacsOfCost) }

// passes are what a request has of admission. The zero value has none, and waits for nothing.
type passes struct {
	request *admission.Pass // nil of a stream, each of whose requests has its own
	batch   *admission.Pass // of a VerifyTacs
	stream  *admission.Pass // of a Transact
}

// enter admits a request by its method, before its body is read; the error is *admission.Refused. A batch has its place among the
// requests, for its client's rate, and waits among the batches.
func (a *Admission) enter(client, method string) (p passes, err error) {
	if method == methodTransact {
		p.stream, err = a.streams.Enter(client)
		return p, err
	}
	if p.request, err = a.requests.Enter(client); err != nil {
		return p, err
	}
	if method == methodVerifyTacs {
		if p.batch, err = a.batches.Enter(client); err != nil {
			p.leave()
		}
	}
	return p, err
}

// request returns when a request of a stream has its slot, or with the error of ctx.
func (a *Admission) request(ctx context.Context, client string, cost int) (*admission.Pass, error) {
	pass, err := a.requests.EnterLate(ctx, client)
	if err != nil {
		return nil, err
	}
	if err := pass.Wait(ctx, cost); err != nil {
		pass.Leave()
		return nil, err
	}
	return pass, nil
}

// wait returns when the request has its slot. A batch has waited before, and holds none of the others'.
func (p *passes) wait(ctx context.Context) error {
	if p.batch != nil {
		return nil
	}
	return p.request.Wait(ctx, 1)
}

// charge counts the TACs of a batch, which are known when it has been read.
func (p *passes) charge(tacs int) {
	if p.batch != nil {
		p.batch.Charge(costOf(tacs) - 1)
		p.request.Charge(costOf(tacs) - 1)
	}
}

// done gives the slot back, before the answer is written: a caller that does not read it holds nobody.
func (p *passes) done() {
	p.request.Done()
	p.batch.Done()
}

// leave ends the request. It may be called again.
func (p *passes) leave() {
	p.request.Leave()
	p.batch.Leave()
	p.stream.Leave()
}

// refusedError is what a client is told.
type refusedError struct{ *admission.Refused }

func (e refusedError) Error() string {
	switch e.Bound {
	case admission.BoundRate:
		return fmt.Sprintf("client %s sends more than its rate, %v requests a second; nothing was done, try again later", e.Client, e.Limit)
	default:
		return fmt.Sprintf("client %s has as many requests waiting as it may, %v; nothing was done, try again later", e.Client, e.Limit)
	}
}
