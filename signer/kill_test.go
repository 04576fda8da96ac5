package signer

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

const (
	kills       = 100
	cardsLoaded = 6
	longestLife = 50 * time.Millisecond // of a signer that serves
)

// TestNoKillBreaksTheRecord kills a signer process with SIGKILL at random points while cards are loaded through it, starts it
// again on the same file, and compares what it answered, and what the cards took, with what is recorded.
func TestNoKillBreaksTheRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	b := &bench{path: path}
	var clients []*client
	for i := range cardsLoaded {
		w := b.wallet(t, fmt.Sprintf("31052280000000%02d", i), softcard.Account{Balance: 1000, Online: 7})
		clients = append(clients, &client{
			wallet: w, random: rand.New(rand.NewPCG(1, uint64(i))), took: map[string]bool{}, mac2: map[string]string{},
		})
	}
	lives := rand.New(rand.NewPCG(2, 0))
	for kill := range kills {
		p := startChild(t, path)
		var working sync.WaitGroup
		for _, c := range clients {
			working.Go(func() {
				for c.goOn(p) {
				}
			})
		}
		time.Sleep(time.Duration(lives.Int64N(int64(longestLife))))
		p.kill(t)
		working.Wait()
		if kill%10 == 9 {
			checkRecord(t, path, clients)
		}
	}
	granted, taken, lost := 0, 0, 0
	for _, c := range clients {
		require.Empty(t, c.wrong)
		granted, taken, lost = granted+len(c.mac2), taken+len(c.took), lost+c.lost
	}
	t.Logf("%d kills, %d MAC2, %d loads taken, %d answers lost", kills, granted, taken, lost)
	require.Greater(t, granted, kills/2)
	require.Greater(t, taken, kills/4)
	require.Greater(t, lost, kills/4, "kills that met no request tell nothing")
}

// client loads one card, and goes on where the last kill left it.
type client struct {
	*wallet
	random *rand.Rand
	next   int
	asked  *call             // the last authorisation, whose answer may be lost
	mac2   map[string]string // received, by transaction
	took   map[string]bool   // by the card: the truth
	lost   int
	wrong  []string

	limited bool // the signer has limits
	refused int  // by one of them
}

func (c *client) complain(format string, a ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, a...))
}

// goOn does one load, or whatever must come before it. false: the signer is dead.
func (c *client) goOn(p *process) bool {
	if c.random.IntN(10) == 0 {
		return c.settleAll(p)
	}
	retried := c.asked != nil && c.random.IntN(3) > 0
	if !retried { // else the card's session may be gone already: its answer is then worth nothing more
		r := c.request(c.offer())
		c.next++
		r.Time = fmt.Sprintf("%02d%02d%02d", c.next/3600%24, c.next/60%60, c.next%60) // so that each TAC is of one load alone
		c.asked = &call{Do: "authorise", Load: r}
	}
	a, err := p.ask(*c.asked)
	if err != nil {
		c.lost++
		return false
	}
	c.asked = nil
	switch a.Outcome {
	case ledger.Approved:
		if earlier := c.mac2[a.ID]; earlier != "" && earlier != a.MAC2 {
			c.complain("%s: MAC2 %s, then %s", a.ID, earlier, a.MAC2)
		}
		c.mac2[a.ID] = a.MAC2
		return c.take(p, a)
	case ledger.SettlementRequired:
		return c.settleAll(p)
	case ledger.LimitExceeded:
		if !c.limited {
			c.complain("%s %s", a.ID, a.Outcome)
		}
		c.refused++
		return true
	case ledger.Verified, ledger.Applied, ledger.NotApplied, ledger.Undetermined, ledger.CounterStale:
		if !retried {
			c.complain("a new answer got %s", a.Outcome)
		}
		return true
	}
	c.complain("%s %s", a.Outcome, a.Error)
	return true
}

// take gives the card its command, and half the time shows the TAC.
func (c *client) take(p *process, a reply) bool {
	if c.random.IntN(8) == 0 {
		return true // the command is lost, and the card asked anew
	}
	tac := c.credit(Authorization{Command: a.Command})
	if tac == noTAC {
		return true
	}
	c.took[a.ID] = true
	if c.random.IntN(2) == 0 {
		return true
	}
	confirmed, err := p.ask(call{Do: "confirm", ID: a.ID, Value: tac})
	if err != nil {
		c.lost++
		return false
	}
	if confirmed.Outcome != ledger.Verified {
		c.complain("%s: its TAC got %s %s", a.ID, confirmed.Outcome, confirmed.Error)
	}
	return true
}

// settleAll has the card's next answer settle what is open.
func (c *client) settleAll(p *process) bool {
	s, err := p.ask(call{Do: "begin", Card: c.serial})
	if err != nil {
		c.lost++
		return false
	}
	settled, err := p.ask(call{Do: "settle", ID: s.ID, Value: c.answerTo(Settlement{Command: s.Command})})
	if err != nil {
		c.lost++
		return false
	}
	if settled.Outcome != ledger.Verified {
		c.complain("%s: %s %s", s.ID, settled.Outcome, settled.Error)
	}
	return true
}

// checkRecord opens what the dead signer left behind.
func checkRecord(t *testing.T, path string, clients []*client) {
	t.Helper()
	b := &bench{path: path, clock: time.Now()}
	b.open(t)
	entries := b.entries(t) // without a gap
	listed, err := b.store.List(t.Context(), store.Filter{Limit: 1_000_000})
	require.NoError(t, err)
	recorded := map[string]store.Attempt{}
	applied := map[string]string{}
	for _, l := range listed {
		a := l.Attempt
		recorded[a.ID] = a
		require.Equal(t, a.ID+" "+a.MAC2, entries[a.AuditIndex].Transaction+" "+entries[a.AuditIndex].MAC2)
		if a.State == store.Verified || a.State == store.Applied {
			at := fmt.Sprintf("%s/%04X", l.Purse.Card, a.Counter)
			require.Empty(t, applied[at], "two applied at %s", at)
			applied[at] = a.ID
		}
	}
	took := map[string]bool{}
	for _, c := range clients {
		for id, mac2 := range c.mac2 {
			require.Equal(t, mac2, recorded[id].MAC2, "%s left and is not recorded so", id)
		}
		for id := range c.took {
			took[id] = true
		}
	}
	for id, a := range recorded {
		switch a.State {
		case store.Verified, store.Applied:
			require.True(t, took[id], "%s is %s by %s, and no card took it", id, a.State, a.Evidence)
		case store.NotApplied:
			require.False(t, took[id], "%s is NOT_APPLIED by %s, and the card took it", id, a.Evidence)
		}
	}
	for _, e := range entries {
		require.NotEqual(t, audit.UnexplainedCounter, e.Event)
		require.True(t, e.MAC2 == "" || recorded[e.Transaction].MAC2 == e.MAC2, "%s has an entry and no record", e.Transaction)
	}
	require.NoError(t, b.store.Close())
	checkIntegrity(t, path)
}

func checkIntegrity(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	var verdict string
	require.NoError(t, db.QueryRow("PRAGMA integrity_check").Scan(&verdict))
	require.Equal(t, "ok", verdict)
}

// process is a signer in a process of its own.
type process struct {
	command *exec.Cmd
	input   io.WriteCloser
	dead    chan struct{} // closed when its output has ended

	mu      sync.Mutex
	last    int
	waiting map[int]chan reply
}

// startChild starts this test binary as a signer over path and returns when it serves.
func startChild(t *testing.T, path string) *process {
	t.Helper()
	return startProcess(t, childDatabase+"="+path)
}

func startProcess(t *testing.T, environment ...string) *process {
	t.Helper()
	p := &process{command: exec.Command(os.Args[0]), dead: make(chan struct{}), waiting: map[int]chan reply{}}
	p.command.Env = append(os.Environ(), environment...)
	p.command.Stderr = os.Stderr
	var err error
	p.input, err = p.command.StdinPipe()
	require.NoError(t, err)
	output, err := p.command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.command.Start())
	lines := bufio.NewScanner(output)
	require.True(t, lines.Scan(), "the signer did not start")
	go p.read(lines)
	return p
}

// read gives each reply to the one who waits for it.
func (p *process) read(lines *bufio.Scanner) {
	defer close(p.dead)
	for lines.Scan() {
		var r reply
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			return // cut in the middle of a line: nobody has received it
		}
		p.mu.Lock()
		p.waiting[r.Number] <- r
		p.mu.Unlock()
	}
}

var errDead = errors.New("the signer is dead")

// ask sends one call and waits for its reply, or for the signer's death.
func (p *process) ask(c call) (reply, error) {
	answer := make(chan reply, 1)
	p.mu.Lock()
	p.last++
	c.Number = p.last
	p.waiting[c.Number] = answer
	line, err := json.Marshal(c)
	if err == nil {
		_, err = p.input.Write(append(line, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return reply{}, errDead
	}
	select {
	case r := <-answer:
		return r, nil
	case <-p.dead:
		select {
		case r := <-answer: // it came before the end
			return r, nil
		default:
			return reply{}, errDead
		}
	}
}

// kill is SIGKILL: nothing of the process runs after it.
func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.command.Process.Kill())
	<-p.dead
	err := p.command.Wait()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, "signal: killed", exit.Error(), "it ended by itself")
}
