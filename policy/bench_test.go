package policy

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// manyRules are 50 clients and 200 policies: those that are shipped, and for each client a ceiling, a purse, hours and a day's total.
func manyRules() Rules {
	rules := Rules{Policies: Shipped()}
	for i := range 50 {
		name := fmt.Sprintf("platform-%02d", i)
		rules.Clients = append(rules.Clients, Client{Name: name, Identity: "spiffe://test/" + name, Role: Platform, KeySets: []string{"gd-purse"}})
	}
	var text strings.Builder
	for i := len(shippedRules()); i < 200; i++ {
		who := rules.Clients[i%len(rules.Clients)].Name
		of := fmt.Sprintf("@id(\"p%d\") forbid (principal == Client::%q, action in [Action::\"AuthorizeLoad\", Action::\"AuthorizeUnload\"], resource)", i, who)
		if i%8 == 0 { // of every client, so that every request meets 25 of these
			of = fmt.Sprintf("@id(\"p%d\") forbid (principal, action == Action::\"AuthorizeLoad\", resource is Key)", i)
		}
		condition := []string{
			fmt.Sprintf("when { context has amountFen && context.amountFen > %d }", 50000+i), `unless { context has purse && context.purse == "EP" }`,
			"when { context.hour < 5 }", fmt.Sprintf("when { context has terminal && context.terminal like \"%02X*\" }", 0x80+i%100),
		}[i/50]
		fmt.Fprintf(&text, "%s %s;\n", of, condition)
	}
	rules.Policies = append(rules.Policies, Document{"of-clients", text.String()})
	return rules
}

func shippedRules() []*rule {
	rules, _ := compile(Shipped(), nil)
	return rules
}

func manyRequests(t testing.TB, p *Policy) (requests []Request) {
	t.Helper()
	for i := range 50 {
		caller, err := p.Identify([]string{fmt.Sprintf("spiffe://test/platform-%02d", i)})
		require.NoError(t, err)
		r := load(caller, 100)
		r.Context.Time = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
		requests = append(requests, r)
	}
	return requests
}

func BenchmarkDecide(b *testing.B) {
	p, err := New(manyRules())
	require.NoError(b, err)
	require.Len(b, p.rules, 200)
	requests := manyRequests(b, p)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := p.Decide(requests[i%len(requests)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkNew(b *testing.B) {
	rules := manyRules()
	for b.Loop() {
		if _, err := New(rules); err != nil {
			b.Fatal(err)
		}
	}
}

// Decide is cheap with many policies: 20 µs is what an operation may spend on it. The bound here is wide, because the machine may be
// busy: what it finds is a Decide that looks at every policy, or parses.
func TestDecideIsCheap(t *testing.T) {
	p, err := New(manyRules())
	require.NoError(t, err)
	requests := manyRequests(t, p)
	best := time.Hour
	for range 20 {
		start := time.Now()
		for _, r := range requests {
			_, err := p.Decide(r)
			require.NoError(t, err)
		}
		best = min(best, time.Since(start)/time.Duration(len(requests)))
	}
	require.Less(t, best, 200*time.Microsecond)
}

// Decide is called by many requests at once, also while nothing is planned yet.
func TestManyDecideAtOnce(t *testing.T) {
	p, err := New(manyRules())
	require.NoError(t, err)
	requests := manyRequests(t, p)
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for _, r := range requests {
				if _, err := p.Decide(r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	require.Len(t, p.plans, len(requests))
}
