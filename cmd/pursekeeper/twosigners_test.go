package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
)

// pairs is how many INITIALIZE answers are sent to both signers at once.
const pairs = 3000

// pair is two signers over one PostgreSQL, each with a token and a sealed log of its own.
type pair struct {
	home
	state   shared
	configs [2]string
	tokens  string // the tokens as they were, beside each other
	signers [2]*program
	on      [2]*platform
}

func newPair(t *testing.T) *pair {
	p := &pair{home: newHome(t), state: newShared(t), tokens: t.TempDir()}
	for n := range p.configs {
		token := fmt.Sprintf("token%d", n)
		restore(t, p.path(token), p.path("token"))
		p.write(token+"/softhsm2.conf", strings.ReplaceAll(p.read("token/softhsm2.conf"), p.path("token"), p.path(token)))
		restore(t, filepath.Join(p.tokens, token), p.path(token))
		p.configs[n] = p.config(fmt.Sprintf("node%d.yaml", n), p.state.edit, edit{`audit: .*`, fmt.Sprintf(`audit: {directory: log%d}`, n)},
			edit{`softhsmConf: .*`, "softhsmConf: " + token + "/softhsm2.conf"})
		p.on[n] = &platform{}
		p.start(n)
		p.on[n].use(listening(p.signers[n], p.home))
	}
	return p
}

func (p *pair) start(n int) { p.signers[n] = start(p.t, []string{"serve", "--config", p.configs[n]}) }

// again kills a signer and starts it anew, with its token as it was; see restore.
func (p *pair) again(n int) {
	p.signers[n].kill()
	token := fmt.Sprintf("token%d", n)
	restore(p.t, p.path(token), filepath.Join(p.tokens, token))
	p.start(n)
	if found := p.signers[n].hears(serving); assert.NotNil(p.t, found, lastOf(p.signers[n].out.String(), 3000)) {
		p.on[n].use(newServed(p.signers[n], p.home, found))
	}
}

// both sends one request to both signers at once until each has answered, and returns one of the answers, which are the same.
func (w *wallet) both(ctx context.Context, a attempt, on [2]*platform) (*v1.AuthorizeLoadResponse, error) {
	var answers [2]*v1.AuthorizeLoadResponse
	var all sync.WaitGroup
	for n, signer := range on {
		all.Go(func() {
			for answers[n] == nil && ctx.Err() == nil {
				try, cancel := context.WithTimeout(ctx, 10*time.Second)
				answer, err := (*signer.client.Load()).AuthorizeLoad(try, a.request)
				cancel()
				if err == nil {
					answers[n] = answer
					return
				}
				if connect.IsWireError(err) {
					assert.Contains(w.t, []connect.Code{connect.CodeUnavailable, connect.CodeResourceExhausted, connect.CodeDeadlineExceeded,
						connect.CodeCanceled}, connect.CodeOf(err), "%v", err)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	one, other := answers[0], answers[1]
	assert.Equal(w.t, one.Outcome, other.Outcome, "%s: %q and %q", a.id, one.Detail, other.Detail)
	assert.Equal(w.t, one.Mac2, other.Mac2, "one INITIALIZE answer, two MAC2s: %s", a.id)
	assert.Equal(w.t, one.Command, other.Command)
	assert.Equal(w.t, one.AuditIndex, other.AuditIndex, "one record: %s", a.id)
	for _, answer := range answers {
		w.proved(answer.Settled)
	}
	if one.Outcome == v1.Outcome_OUTCOME_APPROVED {
		w.mu.Lock()
		w.mac2[a.init] = one.Mac2
		w.mu.Unlock()
	}
	return one, nil
}

// shown is one transaction of a card whose INITIALIZE answer is shown to both signers at once. What follows goes to either, by chance.
func (w *wallet) shown(ctx context.Context, on [2]*platform, shown *atomic.Int64) error {
	w.on = on[w.random.IntN(2)]
	a := w.initialize()
	a.request.Date, a.request.Time = storyDate, storyTime
	answer, err := w.both(ctx, a, on)
	if err != nil {
		return err
	}
	shown.Add(1)
	if answer.Outcome == v1.Outcome_OUTCOME_SETTLEMENT_REQUIRED {
		return w.settle(ctx)
	}
	if !assert.Equal(w.t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome, "%s: %s", a.id, answer.Detail) {
		return nil
	}
	switch w.random.IntN(6) {
	case 0: // the command is lost, and the card is loaded again at its counter
		return nil
	case 1: // the command is lost, and the platform settles
		return w.settle(ctx)
	case 2: // the TAC is lost
		w.credit(a, answer.Command)
		return nil
	}
	return w.confirm(ctx, a.id, w.credit(a, answer.Command))
}

// Two signers on one PostgreSQL, and every INITIALIZE answer sent to both at once, while one or the other is killed: one MAC2, one record, and
// in the end the record tells of every card what the card knows itself (DESIGN, §3).
func TestTwoSigners(t *testing.T) {
	p := newPair(t)
	cards := wallets(t, p.on[0], 8)
	var shown atomic.Int64
	stop := traffic(cards, func(w *wallet, ctx context.Context) error { return w.shown(ctx, p.on, &shown) })
	defer stop()
	watch := newAuditor(t, p.state.open, cards)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for kill := range 6 {
		before := shown.Load()
		eventually(t, "both answer", func() bool { return shown.Load() > before+20 || t.Failed() })
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
		p.again(kill % 2)
		watch.read()
		require.False(t, t.Failed(), "after kill %d", kill)
	}
	for round := int64(1); round <= 10; round++ {
		eventually(t, "both answer", func() bool { return shown.Load() > pairs*round/10 || t.Failed() })
	}
	stop()
	for _, w := range cards {
		w.on = p.on[0]
		w.finish()
	}
	for _, signer := range p.signers {
		require.Zero(t, signer.terminate())
	}
	watch.read()
	t.Logf("%d answers were shown to both signers at once; the record has %d entries", shown.Load(), watch.next)
	for _, outcome := range []string{"APPLIED", "NOT_APPLIED"} {
		assert.Contains(t, watch.settled, outcome)
	}
	// Each log begins with what the other knows too; that of the signer that sealed last has everything.
	whole := 0
	for n := range p.configs {
		log := fmt.Sprintf("log%d", n)
		status, out := run(t, []string{"audit", "verify", p.path(log), "--key", p.path(log + ".pub")})
		assert.Zero(t, status, out)
		if regexp.MustCompile(fmt.Sprintf(`, %d entries, root `, watch.next)).MatchString(out) {
			whole++
		}
	}
	assert.NotZero(t, whole, "no log has the whole record")
}
