package signer

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// purchases are n requests of as many cards, each with a right TAC, made by the schedule in memory.
func (b *bench) purchases(t testing.TB, set string, n int) []TACRequest {
	t.Helper()
	s := b.current.Load().sets[set]
	items := make([]TACRequest, n)
	for i := range items {
		var factor keyderive.Factor
		binary.BigEndian.PutUint64(factor[:], 0x3105228100000000+uint64(i))
		tsn := purse.TSN(i)
		p, err := purse.NewPurchase(purse.PurchaseInit{}, purse.TTIPurchaseEP, tsn, purse.Fen(100+i), purse.Terminal{0x11, 0x22, 0x33, 0x44, 0x55, 0x66})
		require.NoError(t, err)
		var value purse.MAC
		err = s.master(s.version(keyderive.KindTAC, 1), card{}).WithCard(context.Background(), factor, func(c keyderive.Card) error {
			k, err := c.TAC()
			if err == nil {
				value, err = k.MAC(p.TACData(purse.Date{0x20, 0x24, 0x01, 0x31}, purse.Time{0x23, 0x59, 0x59}))
			}
			return err
		})
		require.NoError(t, err)
		items[i] = TACRequest{
			KeySet: set, CardSerial: factor.String(), KeyVersion: 1, Type: "06", AmountFen: uint64(100 + i), TerminalID: "112233445566",
			TerminalSerial: tsn.String(), Date: "20240131", Time: "235959", TAC: upperHex(value[:]),
		}
	}
	return items
}

func BenchmarkVerifyTacs(b *testing.B) {
	for _, set := range []string{"demo", "demo-sm4"} {
		b.Run(set, func(b *testing.B) {
			s := newBench(b)
			items := s.purchases(b, set, MaxTACs)
			b.ReportAllocs()
			for b.Loop() {
				answer, err := s.VerifyTacs(context.Background(), s.caller, items)
				require.NoError(b, err)
				require.Equal(b, MaxTACs, answer.Verified)
				require.Equal(b, ledger.Verified, answer.Results[0].Outcome)
			}
			b.ReportMetric(float64(b.N)*MaxTACs/b.Elapsed().Seconds(), "tacs/s")
		})
	}
}
