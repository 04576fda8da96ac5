package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Bucket names a running total that a Change looks at or adds to: whose it is, and of which hour or day.
type Bucket struct {
	Name  string    // holds no comma
	Until time.Time // when its hour or day is over; SweepTotals keeps it for longer
}

// Total is what a bucket holds; the zero Total is that of a bucket nothing was ever added to.
//
// Its Fen, and its Count where it counts attempts, are by construction what the attempts that name the bucket are charged with: each counter
// of a purse once, at the largest amount among its attempts but those known not to have been applied. The store adds what each decision
// changes of that, so a settlement, a TAC or an officer's reset gives back without knowing of limits.
type Total struct {
	Fen   int64
	Count int64
	// The highest thresholds that an alarm was raised for, 0 before the first; see Purse.Alarmed.
	AlarmedFen, AlarmedCount int64
}

// namedTotal is a total that a change named, as a decision sees it.
type namedTotal struct {
	bucket string
	Total
}

// Total returns what a bucket holds that the Change named, as the changes before this one left it. It panics when the Change did not.
func (p *Purse) Total(bucket string) Total { return p.mustNameTotal(bucket).Total }

// Count adds n to the count of a bucket that the Change named, and returns its total then. It is for what is no attempt: an attempt
// counts by itself. It panics when the Change did not name the bucket, and of a negative n.
func (p *Purse) Count(bucket string, n int) Total {
	t := p.mustNameTotal(bucket)
	if n < 0 || t.Count > math.MaxInt64-int64(n) {
		panic("store: a decision counted backwards, or past the end")
	}
	t.Count += int64(n)
	return t.Total
}

// Alarmed keeps the thresholds that an alarm was raised for, so that one raises it once. 0 keeps nothing. It panics as Total does.
func (p *Purse) Alarmed(bucket string, fen, count int64) {
	t := p.mustNameTotal(bucket)
	t.AlarmedFen, t.AlarmedCount = max(t.AlarmedFen, fen), max(t.AlarmedCount, count)
}

func (p *Purse) mustNameTotal(bucket string) *namedTotal {
	for i := range p.totals {
		if p.totals[i].bucket == bucket {
			return &p.totals[i]
		}
	}
	panic("store: a decision looked at a total that its change did not name")
}

// Charge is what the attempts at a counter are charged with in a bucket; charged is false when none is. It panics as At does.
func (p *Purse) Charge(counter int, bucket string) (fen int64, charged bool) {
	for _, a := range p.At(counter) {
		if a.charged() && slices.Contains(a.Buckets, bucket) {
			fen, charged = max(fen, int64(a.Amount)), true
		}
	}
	return fen, charged
}

// charged reports whether an attempt is charged to its buckets: unless it is known that its card did not take it.
func (a *Attempt) charged() bool { return a.State != NotApplied || a.Contradicted }

// charge is what changes of one bucket.
type charge struct {
	bucket     string
	fen, count int64
}

// chargePlace is one counter of one card in one bucket, of one purse.
type chargePlace struct {
	epoch, counter int
	bucket         string
}

// charges is what the attempts of one purse are charged with, by place: the largest amount there. A place that is in it counts once.
func charges(attempts []*Attempt) map[chargePlace]int64 {
	all := map[chargePlace]int64{}
	for _, a := range attempts {
		for _, bucket := range a.Buckets {
			if place := (chargePlace{a.Epoch, a.Counter, bucket}); a.charged() {
				all[place] = max(all[place], int64(a.Amount))
			}
		}
	}
	return all
}

// chargedAnew is what a decision changed of the buckets, by what its purse's attempts were before and after, in the order of the names. The
// attempts of a counter are read all or none, so what was not read is charged as it was.
func chargedAnew(before, after []*Attempt) []charge {
	if len(before) == len(after) && slices.EqualFunc(before, after, func(a, b *Attempt) bool { return a.charged() == b.charged() }) {
		return nil
	}
	was, is := charges(before), charges(after)
	sum := map[string]charge{}
	add := func(bucket string, fen, count int64) {
		c := sum[bucket]
		sum[bucket] = charge{bucket, c.fen + fen, c.count + count}
	}
	for place, fen := range was {
		add(place.bucket, -fen, -1)
	}
	for place, fen := range is {
		add(place.bucket, fen, 1)
	}
	var all []charge
	for _, c := range sum {
		if c.fen != 0 || c.count != 0 {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b charge) int { return cmp.Compare(a.bucket, b.bucket) })
	return all
}

// checkBuckets refuses a new attempt that is charged to a bucket its change did not name: one whose total nobody looked at.
func checkBuckets(a *Attempt, c Change) error {
	for i, bucket := range a.Buckets {
		switch {
		case bucket == "" || strings.Contains(bucket, ","):
			return fmt.Errorf("bug: a new attempt has bucket %q, expected a name without a comma", bucket)
		case slices.Contains(a.Buckets[:i], bucket):
			return fmt.Errorf("bug: a new attempt has bucket %s twice", bucket)
		case !slices.ContainsFunc(c.Totals, func(b Bucket) bool { return b.Name == bucket }):
			return fmt.Errorf("bug: a new attempt has bucket %s, which its change did not name", bucket)
		}
	}
	return nil
}

// SweepTotals deletes up to limit of the totals whose hour or day was over before a time, in one transaction, and returns how many. What is
// given back to a total that is gone is given to none: nothing decides on it any more.
func (s *Database) SweepTotals(ctx context.Context, before time.Time, limit int) (deleted int, err error) {
	n := new(int64) // not a result variable: after an early return the writer may still write it
	err = s.aside(ctx, func(on connection) (err error) {
		*n, err = on.exec(`DELETE FROM totals WHERE bucket IN (SELECT bucket FROM totals WHERE until < ? ORDER BY until LIMIT ?)`,
			before.UnixMicro(), limit)
		return readError(err)
	})
	if err != nil {
		return 0, err
	}
	return int(*n), nil
}
