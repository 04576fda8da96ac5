package config

import (
	"fmt"

	"github.com/pursekeeper/pursekeeper/signer/admission"
)

// The most that may be written; more would bound nothing.
const (
	maxAdmitted = 1 << 16
	maxRate     = 1_000_000
)

// Admission is how clients share the service.
type Admission struct {
	Slots   int
	Default admission.Limits
	Clients map[string]admission.Limits // in place of Default, by name
}

// leastSlots keep a token of few sessions busy while the last requests' records become durable.
const leastSlots = 64

// slotsOfSession is how many requests are worked on for each session of the token: while one is in the token, others are read, answered and
// made durable.
const slotsOfSession = 16

// admission has defaults that are derived of the token's: all that is worked on may wait for the token at once, and a quarter of its queue
// is left to readiness, batches and ceremonies.
func (c *checker) admission(file AdmissionFile, token Token, clients []ClientFile) Admission {
	slots := max(1, min(max(leastSlots, slotsOfSession*token.InFlight), token.Queue-token.Queue/4))
	a := Admission{Slots: c.count("admission.slots", file.Slots, slots, maxAdmitted)}
	if a.Slots > token.Queue && token.Queue > 0 {
		c.refuse("admission.slots", "%d: expected at most token.queue, %d", a.Slots, token.Queue)
	}
	a.Default = c.bounds("admission", file.AdmissionBounds, admission.Limits{Queue: a.Slots})
	known := map[string]bool{}
	for _, client := range clients {
		known[client.Name] = true
	}
	seen := map[string]bool{}
	for i, f := range file.Clients {
		field := fmt.Sprintf("admission.clients[%d]", i)
		c.unique(seen, field+".name", f.Name)
		if f.Name != "" && len(clients) > 0 && !known[f.Name] { // one of the catalogue may come later
			c.refuse(field+".name", "there is no client %q", f.Name)
		}
		if a.Clients == nil {
			a.Clients = map[string]admission.Limits{}
		}
		a.Clients[f.Name] = c.bounds(field, f.AdmissionBounds, a.Default)
	}
	return a
}

// bounds are those that are written, and of fallback those that are left out. A rate that is written has a burst of its own.
func (c *checker) bounds(field string, file AdmissionBounds, fallback admission.Limits) admission.Limits {
	limits := fallback
	limits.Queue = c.count(field+".queue", file.Queue, fallback.Queue, maxAdmitted)
	limits.Concurrency = c.count(field+".concurrency", file.Concurrency, fallback.Concurrency, maxAdmitted)
	if file.Rate != nil {
		limits.Rate = float64(c.count(field+".rate", file.Rate, 0, maxRate))
		limits.Burst = limits.Rate
	}
	if file.Burst != nil {
		limits.Burst = float64(c.count(field+".burst", file.Burst, 0, maxRate))
		if limits.Rate == 0 {
			c.refuse(field+".burst", "has no use without a rate")
		}
	}
	return limits
}
