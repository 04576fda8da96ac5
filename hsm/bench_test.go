package hsm

import (
	"context"
	"fmt"
	"testing"

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

// BenchmarkBareLoad is the loop that DESIGN §10 compares with.
func BenchmarkBareLoad(b *testing.B) {
	for _, threads := range []int{1, 2, 3, 4} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			config, spec := benchToken(b, keyderive.BoundaryToken, 1)
			perSecond, err := BareLoad(context.Background(), config, spec.Label, demoPath, b.N, threads)
			require.NoError(b, err)
			b.ReportMetric(perSecond, "loads/s")
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

func benchLoad(key keyderive.Key) error {
	return keyderive.NewMaster(key, demoPath).WithCard(context.Background(), benchCard, func(card keyderive.Card) error {
		session, err := card.Session(benchInput)
		if err != nil {
			return err
		}
		_, err = session.Answer(benchProof, benchMAC1, benchIssue)
		return err
	})
}

var (
	benchCard  = keyderive.Factor{0x31, 0x05, 0x22, 0x80, 0x00, 0x00, 0x11, 0x17}
	benchInput = keyderive.Factor{0xA1, 0xB2, 0xC3, 0xD4, 0x00, 0x07, 0x80, 0x00}
	benchProof = []byte{0, 0, 3, 0xE8, 0, 0, 0, 0x64, 2, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66}
	benchMAC1  = keyderive.MAC{0x7E, 0x17, 0x22, 0xD0}
	benchIssue = []byte{0, 0, 0, 0x64, 2, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x20, 0x24, 0x01, 0x31, 0x23, 0x59, 0x59}
)
