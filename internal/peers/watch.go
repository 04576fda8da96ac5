package peers

import (
	"context"
	"log/slog"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
)

// Every is how often Watch looks at the files. What is new is in use after two looks.
const Every = 2 * time.Second

// Watch looks at the files until ctx ends.
func (p *Peers) Watch(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.Look(false)
		case <-ctx.Done():
			return
		}
	}
}

// Look reads the files and takes what is new. At once is for someone who knows that they are all written: else what is new must be found
// twice.
func (p *Peers) Look(atOnce bool) {
	p.looking.Lock()
	defer p.looking.Unlock()
	used, now := p.current.Load(), p.config.Now()
	server, news, err := p.server.look(used.server, now, atOnce)
	p.report("server", news, err)
	clients, news, err := p.clients.look(used.clients, now, atOnce)
	p.report("clients", news, err)
	p.outdated.server.Store(p.server.err != nil)
	p.outdated.clients.Store(p.clients.err != nil)
	if server != nil || clients != nil {
		p.use(orElse(server, used.server), orElse(clients, used.clients))
		for _, issuer := range p.current.Load().clients.unused {
			p.config.Log.Warn("a list of revoked certificates is of no authority in tls.clientCA, and has no use", "issuer", issuer)
		}
		p.config.Log.Info("certificates in use", "generation", p.Generation(), "server", server != nil, "clients", clients != nil)
	}
	p.alarmLate()
}

func orElse[T any](value, other *T) *T {
	if value != nil {
		return value
	}
	return other
}

// report alarms once for each content that is of no use.
func (p *Peers) report(half string, news bool, err error) {
	if err != nil && news {
		p.config.Log.Error("new certificates are not in use: those from before are", "half", half, slog.Any("error", err))
		p.config.Alarm(audit.CertificatesRefused)
	}
}

// alarmLate alarms once for each list that is out of date. looking is held, or nobody else has p yet.
func (p *Peers) alarmLate() {
	now, clients := p.config.Now(), p.current.Load().clients
	for _, ca := range clients.authorities {
		id := identify(ca)
		list := clients.lists[id]
		if list == nil || now.Before(list.NextUpdate) {
			delete(p.late, id)
			continue
		}
		if !p.late[id] {
			p.late[id] = true
			p.config.Log.Error("a list of revoked certificates is out of date", "issuer", ca.Subject.String(),
				"nextUpdate", list.NextUpdate, "refusedFrom", list.NextUpdate.Add(clients.grace))
			p.config.Alarm(audit.RevocationListLate)
		}
	}
}
