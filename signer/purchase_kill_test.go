package signer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse/softreader"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

// tillDatabase, in the environment, makes this test binary a signer of tills over that file.
const tillDatabase = "PURSEKEEPER_TEST_TILL_DATABASE"

func serveTill(path string) {
	b := &bench{path: path, clock: time.Date(2024, 1, 31, 15, 59, 59, 0, time.UTC)}
	b.open(childTB{}, func(c *Config) {
		c.KeySets, c.Policy = []KeySet{tillKeySet(childTB{}, suite.TDES, "pboc-ep")}, tillPolicy(childTB{}, 0)
	})
	var err error
	if b.caller, err = b.Identify(context.Background(), []string{readerIdentity}); err != nil {
		os.Exit(2)
	}
	serveLines(b.serveTillCall)
}

func (b *bench) serveTillCall(c call) reply {
	r := reply{Number: c.Number}
	var err error
	switch c.Do {
	case "buy":
		var a Bargain
		a, err = b.BeginPurchase(context.Background(), b.caller, c.Purchase)
		r.Outcome, r.ID, r.MAC1, r.Serial = a.Outcome, a.PurchaseID, a.MAC1, a.TerminalSerial
	case "seal":
		var a Sealed
		a, err = b.Seal(context.Background(), b.caller, c.ID, c.Value, false)
		r.Outcome, r.Sequence, r.Frame = a.Outcome, a.Sequence, a.Frame
	default:
		err = fmt.Errorf("no such call: %q", c.Do)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

const (
	tillKills = 30
	tillLife  = 60 * time.Millisecond
	tillsOpen = 4
)

// sales is what one till asked and was told, over all lives of the signer.
type sales struct {
	terminal string
	random   *rand.Rand
	next     uint32
	asked    *PurchaseRequest  // whose answer may be lost
	told     map[string]string // serial number and MAC1, by purchase
	frames   map[uint32]string // by sequence
	lost     int
	wrong    []string
}

func (s *sales) complain(format string, a ...any) {
	s.wrong = append(s.wrong, fmt.Sprintf(format, a...))
}

// goOn asks for one purchase and one frame. false: the signer is dead.
func (s *sales) goOn(p *process, session string) bool {
	if s.asked == nil || s.random.IntN(3) == 0 {
		s.next++
		s.asked = &PurchaseRequest{
			KeySet: "demo", CardSerial: testSerial, Type: "06", AmountFen: 100, TerminalID: testTerminal,
			InitializeResponse: fmt.Sprintf("000003E8 0003 000000 01 00 %s%06X", s.terminal, s.next),
		}
	}
	r, err := p.ask(call{Do: "buy", Purchase: *s.asked})
	if err != nil {
		s.lost++
		return false
	}
	told := r.Serial + " " + r.MAC1
	switch earlier := s.told[r.ID]; {
	case r.Outcome != ledger.Approved:
		s.complain("%s %s", r.Outcome, r.Error)
	case earlier != "" && earlier != told:
		s.complain("%s: %s, then %s", r.ID, earlier, told)
	}
	s.told[r.ID] = told
	if s.random.IntN(2) == 0 {
		s.asked = nil // else the same once more
	}
	r, err = p.ask(call{Do: "seal", ID: session, Value: "5EC2E7"})
	if err != nil {
		s.lost++
		return false
	}
	if r.Outcome != ledger.Approved || s.frames[r.Sequence] != "" {
		s.complain("frame %d: %s %s", r.Sequence, r.Outcome, r.Error)
	}
	s.frames[r.Sequence] = r.Frame
	return true
}

// TestNoKillRepeatsASerialNumber kills a signer process with SIGKILL at random points while tills on one terminal number have
// purchases begun and frames sealed through it. No serial number is given to two purchases, no purchase has two MAC1, no frame
// number is given twice, and what was answered is recorded.
func TestNoKillRepeatsASerialNumber(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	module, session := l.line()
	require.NoError(t, l.bench.store.Close())
	path := filepath.Clean(l.path)
	var all []*sales
	for i := range tillsOpen {
		all = append(all, &sales{
			terminal: fmt.Sprintf("%02X", i), random: rand.New(rand.NewPCG(3, uint64(i))), told: map[string]string{}, frames: map[uint32]string{},
		})
	}
	lives := rand.New(rand.NewPCG(4, 0))
	for range tillKills {
		p := startProcess(t, tillDatabase+"="+path)
		var working sync.WaitGroup
		for _, s := range all {
			working.Go(func() {
				for s.goOn(p, session) {
				}
			})
		}
		time.Sleep(time.Duration(lives.Int64N(int64(tillLife))))
		p.kill(t)
		working.Wait()
	}
	checkSales(t, path, session, all, module)
}

func checkSales(t *testing.T, path, session string, all []*sales, module *softreader.Module) {
	t.Helper()
	b := &bench{path: path, clock: time.Date(2024, 1, 31, 15, 59, 59, 0, time.UTC)}
	b.open(t, func(c *Config) {
		c.KeySets, c.Policy = []KeySet{tillKeySet(t, suite.TDES, "pboc-ep")}, tillPolicy(t, 0)
	})
	entries := b.entries(t)
	serials, frames, lost := map[string]string{}, map[uint32]string{}, 0
	for _, s := range all {
		require.Empty(t, s.wrong)
		lost += s.lost
		for id, told := range s.told {
			serial := told[:8]
			require.Empty(t, serials[serial], "serial number %s of two purchases", serial)
			serials[serial] = id
			parsed, err := parseRecorded(purchaseField, purchaseOperations, id)
			require.NoError(t, err)
			recorded, err := b.store.Purchase(t.Context(), parsed.purse, parsed.key)
			require.NoError(t, err)
			require.Equal(t, told, fmt.Sprintf("%08X %s", recorded.Serial, recorded.MAC1))
			require.Equal(t, recorded.MAC1, entries[recorded.AuditIndex].MAC1)
		}
		for sequence, frame := range s.frames {
			require.Empty(t, frames[sequence], "frame %d twice", sequence)
			frames[sequence] = frame
		}
	}
	t.Logf("%d kills, %d purchases, %d frames, %d answers lost", tillKills, len(serials), len(frames), lost)
	require.Greater(t, len(serials), tillKills/2)
	require.Greater(t, lost, tillKills/4, "kills that met no request tell nothing")
	for sequence := uint32(1); frames[sequence] != ""; sequence++ { // up to the first that a kill took
		data, _, err := module.Open(unhex(t, frames[sequence]))
		require.NoError(t, err)
		require.Equal(t, "5EC2E7", upperHex(data))
	}
	found, err := b.store.ReaderSession(t.Context(), session)
	require.NoError(t, err)
	require.GreaterOrEqual(t, int(found.Sent.Sequence), len(frames))
	require.Equal(t, store.SessionOpen, found.State)
	require.NoError(t, b.store.Close())
	checkIntegrity(t, path)
}
