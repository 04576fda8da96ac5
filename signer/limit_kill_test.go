package signer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// killedLimits are those of a signer that is killed again and again: a few loads a day.
const killedLimits = `limits:
  - {name: card-day, per: card, period: day, maxFen: 300}
  - {name: client-day, per: client, period: day, maxFen: 1000}
`

var killedBounds = map[string]bound{
	"card-day":   {func(e audit.Entry) string { return e.Card + localTime(e, "20060102") }, 300, math.MaxInt64},
	"client-day": {func(e audit.Entry) string { return e.Client + localTime(e, "20060102") }, 1000, math.MaxInt64},
}

// busiestLife is how much is done, on average, in one life of a signer.
const busiestLife = 20

// TestNoKillBreaksALimit kills a signer process with SIGKILL at random points while cards are loaded up to their limits through it. Two lives
// are one day. What is left behind is always a record that never was above a limit, and totals that are what the attempts say.
func TestNoKillBreaksALimit(t *testing.T) {
	const kills = 24
	path := filepath.Join(t.TempDir(), "state.db")
	b := &bench{path: path}
	var clients []*client
	for i := range cardsLoaded {
		w := b.wallet(t, fmt.Sprintf("31052280000000%02d", i), softcard.Account{Balance: 1000, Online: 7})
		clients = append(clients, &client{
			wallet: w, random: rand.New(rand.NewPCG(3, uint64(i))), took: map[string]bool{}, mac2: map[string]string{}, limited: true,
		})
	}
	lives := rand.New(rand.NewPCG(4, 0))
	for kill := range kills {
		p := startProcess(t, childDatabase+"="+path, fmt.Sprint(childDay, "=", kill/2))
		var working sync.WaitGroup
		var answered atomic.Int64
		target, reached := int64(1+lives.IntN(2*busiestLife)), make(chan struct{})
		for _, c := range clients {
			working.Go(func() {
				for c.goOn(p) {
					if answered.Add(1) == target {
						close(reached)
					}
				}
			})
		}
		<-reached // while the other clients' requests are on their way
		p.kill(t)
		working.Wait()
	}
	left := &bench{path: path, clock: time.Now()}
	left.open(t)
	approved, refused := checkLimits(t, left.entries(t), killedBounds)
	buckets := checkTotals(t, left.store)
	lost, told := 0, 0
	for _, c := range clients {
		require.Empty(t, c.wrong)
		lost, told = lost+c.lost, told+c.refused
	}
	require.NoError(t, left.store.Close())
	checkIntegrity(t, path)
	t.Logf("%d kills, %d loads approved, %d refused by a limit, %d totals, %d answers lost", kills, approved, refused, buckets, lost)
	require.Greater(t, approved, kills/2)
	require.Greater(t, told, kills/4)
	require.Greater(t, lost, kills/4, "kills that met no request tell nothing")
}
