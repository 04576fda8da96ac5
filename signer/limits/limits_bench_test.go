package limits

import (
	"testing"

	"github.com/pursekeeper/pursekeeper/store"
)

// BenchmarkFive is what five limits cost beside the database: to find them, name their totals, and judge.
func BenchmarkFive(b *testing.B) {
	grant := granted(&testing.T{}, `  - {name: one, per: transaction, maxFen: 100000}
  - {name: card-day, per: card, period: day, maxFen: 200000, alarmFen: 150000}
  - {name: card-hour, per: card, period: hour, maxCount: 5}
  - {name: client-day, per: client, period: day, maxFen: 500000000}
  - {name: terminal-day, per: terminal, period: day, alarmFen: 5000000}
`, "")
	totals := book{map[string]store.Total{}, map[string]int64{}}
	b.ReportAllocs()
	for b.Loop() {
		plan := For(grant, asked(1000, 0))
		if len(plan.Totals()) != 4 || len(plan.Buckets()) != 4 || plan.Judge(totals) != "" {
			b.Fatal("expected four totals, and no refusal")
		}
	}
}
