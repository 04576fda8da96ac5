package hsm

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

const benchCallers = 64

// benchToken makes a token that holds the load master at a boundary, and returns how to open it.
func benchToken(b *testing.B, boundary keyderive.Boundary, inFlight int) (Config, KeySpec) {
	config := configOf(hsmtest.NewToken(b))
	config.InFlight = inFlight
	spec := specOf(b, "demo/load/1", keyderive.KindLoad, suite.TDES, boundary, 1, loadMaster)
	token, err := Open(context.Background(), config)
	require.NoError(b, err)
	importKey(b, token, spec, loadMaster)
	require.NoError(b, token.Close())
	config.Keys = []KeySpec{spec}
	return config, spec
}

// BenchmarkBareLoop is the loop that DESIGN §10 compares with.
func BenchmarkBareLoop(b *testing.B) {
	for _, threads := range []int{1, 2, 3, 4} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			config, spec := benchToken(b, keyderive.BoundaryToken, 1)
			loop, err := openToken(b, config).BareLoop(context.Background(), spec.Label, demoPath, threads)
			require.NoError(b, err)
			b.ResetTimer()
			took, err := loop.Run(context.Background(), b.N, threads)
			require.NoError(b, err)
			b.ReportMetric(float64(b.N)/took.Seconds(), "loads/s")
		})
	}
}

// BenchmarkLend is the same load through keyderive and the workers, from 64 callers.
func BenchmarkLend(b *testing.B) {
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryCard} {
		for _, inFlight := range []int{1, 2, 3, 4, 8} {
			b.Run(fmt.Sprintf("%v/inflight=%d", boundary, inFlight), func(b *testing.B) {
				config, spec := benchToken(b, boundary, inFlight)
				token := openToken(b, config)
				key, err := token.Key(spec.Label)
				require.NoError(b, err)
				_, err = loadMAC2(context.Background(), b, key, demoPath, "7E1722D0")
				require.NoError(b, err)
				b.SetParallelism(benchCallers / 2)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := benchLoad(key); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "loads/s")
			})
		}
	}
}

// BenchmarkSlowToken is DESIGN §10's token with a millisecond of latency in each call, 8 sessions, CARD: many cards go in one call.
func BenchmarkSlowToken(b *testing.B) {
	for _, callers := range []int{64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			made, control := hsmtest.NewFaultToken(b)
			config := configOf(made)
			config.InFlight = 8
			token := openToken(b, config)
			key := importKey(b, token, specOf(b, "load", keyderive.KindLoad, suite.TDES, keyderive.BoundaryCard, 1, loadMaster), loadMaster)
			require.NoError(b, benchLoad(key))
			control.Set(hsmtest.Fault{Function: hsmtest.EveryFunction, Latency: time.Millisecond})
			b.SetParallelism(callers / 2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := benchLoad(key); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "loads/s")
			b.StopTimer()
			control.Clear()
		})
	}
}

// BenchmarkLendCards verifies TACs in bulk, two callers: what VerifyTacs does of the token and of its CPU.
func BenchmarkLendCards(b *testing.B) {
	config := configOf(hsmtest.NewToken(b))
	token := openToken(b, config)
	key := importKey(b, token, specOf(b, "tac", keyderive.KindTAC, suite.TDES, keyderive.BoundaryCard, 1, tacMaster), tacMaster)
	cards := make([]keyderive.Factor, 4096)
	for i := range cards {
		cards[i] = keyderive.Factor{byte(i >> 8), byte(i)}
	}
	var group sync.WaitGroup
	begin := time.Now()
	for range 2 {
		group.Go(func() {
			for from := 0; from < b.N; from += len(cards) {
				err := key.LendCards(context.Background(), demoPath, cards, func(_ int, card keyderive.Card) error {
					tac, err := card.TAC()
					if err == nil {
						_, err = tac.MAC(benchTAC)
					}
					return err
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	done := 2 * (b.N + len(cards) - 1) / len(cards) * len(cards)
	b.ReportMetric(float64(done)/time.Since(begin).Seconds(), "cards/s")
}

var benchTAC = make([]byte, 24)

// BenchmarkRatio is the figure of DESIGN §10 without the durable record: loads from 64 callers over the bare loop, of the best of one to
// four threads. All take turns, for a machine that others use too, and their rates are over all turns.
func BenchmarkRatio(b *testing.B) {
	const turns, loads, mostThreads = 10, 4000, 4
	for _, inFlight := range []int{1, 2, 3, 4} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			config, spec := benchToken(b, keyderive.BoundaryToken, inFlight)
			token := openToken(b, config)
			key, err := token.Key(spec.Label)
			require.NoError(b, err)
			loop, err := token.BareLoop(context.Background(), spec.Label, demoPath, mostThreads)
			require.NoError(b, err)
			for b.Loop() {
				var bare [mostThreads]time.Duration
				var lent time.Duration
				for range turns {
					for i := range bare {
						took, err := loop.Run(context.Background(), loads/mostThreads, i+1)
						require.NoError(b, err)
						bare[i] += mostThreads * took
					}
					lent += benchCallersLoad(b, key, loads)
				}
				b.ReportMetric(slices.Min(bare[:]).Seconds()/lent.Seconds(), "lend/bare")
			}
		})
	}
}

// benchCallersLoad is how long n loads from 64 callers take.
func benchCallersLoad(b *testing.B, key *Key, n int) time.Duration {
	var group sync.WaitGroup
	begin := time.Now()
	for range benchCallers {
		group.Go(func() {
			for range n / benchCallers {
				if err := benchLoad(key); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	return time.Since(begin)
}

func benchLoad(key keyderive.Key) error {
	_, err := keyderive.NewMaster(key, demoPath).Exchange(context.Background(), keyderive.Exchange{
		Card: benchCard, In: benchInput, Proof: benchProof, Got: benchMAC1, Issue: benchIssue,
	})
	return err
}

var (
	benchCard  = keyderive.Factor{0x31, 0x05, 0x22, 0x80, 0x00, 0x00, 0x11, 0x17}
	benchInput = keyderive.Factor{0xA1, 0xB2, 0xC3, 0xD4, 0x00, 0x07, 0x80, 0x00}
	benchProof = []byte{0, 0, 3, 0xE8, 0, 0, 0, 0x64, 2, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66}
	benchMAC1  = keyderive.MAC{0x7E, 0x17, 0x22, 0xD0}
	benchIssue = []byte{0, 0, 0, 0x64, 2, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x20, 0x24, 0x01, 0x31, 0x23, 0x59, 0x59}
)
