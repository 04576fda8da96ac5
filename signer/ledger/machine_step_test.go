package ledger_test

import (
	"fmt"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
)

// step is one thing that happens. Its bytes choose among what there is: 0 is the plainest choice.
type step struct {
	Do      string
	A, B, C byte
}

// GoString is how a failure prints a step.
func (s step) GoString() string { return fmt.Sprintf("%s(%d,%d,%d)", s.Do, s.A, s.B, s.C) }

var (
	terminals = []purse.Terminal{{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}, {0x66, 0x55, 0x44, 0x33, 0x22, 0x11}}
	amounts   = []purse.Fen{100, 250}
	moments   = []moment{{"20240131", "235959"}, {}, {"20240201", "000000"}}
)

// likely are the steps by how often they come; those of the last line are left out where a script must give the same run
// each time.
var likely = map[string]int{
	"load": 5, "collect": 4, "initialise": 4, "authorise": 6, "deliver": 5, "confirm": 4, "guess": 1, "prove": 2,
	"begin": 3, "initialise for it": 3, "settle": 4, "settlement": 6, "race a settlement": 3, "spend": 1, "lose power": 1,
	"later": 1, "clock": 1, "restart": 1, "wrong MAC1": 1, "unlock": 1, "foreign load": 1, "unload": 3, "same random": 2, "same TAC": 3,
	"ten":     1,
	"reset":   1,
	"at once": 1,
}

// scripts generates runs. A play ends with its script, so shrinking one is dropping steps and zeroing bytes.
func scripts(longest int, deterministic bool) *rapid.Generator[[]step] {
	names := []string{"nothing"} // what a step shrinks to
	for _, name := range sorted(likely) {
		for range likely[name] {
			if name != "at once" || !deterministic {
				names = append(names, name)
			}
		}
	}
	one := rapid.Custom(func(t *rapid.T) step {
		return step{
			Do: rapid.SampledFrom(names).Draw(t, "do"),
			A:  rapid.Byte().Draw(t, "a"), B: rapid.Byte().Draw(t, "b"), C: rapid.Byte().Draw(t, "c"),
		}
	})
	return rapid.SliceOfN(one, longest/2, longest)
}

// run plays a script and returns the first invariant found broken, with the number of steps that it took.
func (p *play) run(script []step) (steps int, found *broken) {
	defer func() {
		switch bug := recover().(type) {
		case nil:
		case broken:
			found = &bug
		default:
			panic(bug)
		}
	}()
	for i, s := range script {
		steps = i + 1
		p.step(s)
		p.check()
	}
	return steps, nil
}

// slot prefers the first purse: a fault shows where things meet.
func (p *play) slot(a byte) *slot {
	switch {
	case a%8 < 5:
		return p.slots[0]
	case a%8 < 7:
		return p.slots[1]
	}
	return p.slots[2]
}

// pick prefers the newest.
func pick[T any](all []T, b byte) (one T, ok bool) {
	if len(all) == 0 {
		return one, false
	}
	if b < 128 {
		return all[len(all)-1], true
	}
	return all[int(b)%len(all)], true
}

func (p *play) step(s step) {
	at := p.slot(s.A)
	switch s.Do {
	case "load", "same random", "collect", "initialise", "initialise for it":
		p.atTheCard(at, s)
	case "begin", "settle", "settlement", "race a settlement":
		p.aboutSettlements(at, s)
	case "authorise", "wrong MAC1":
		caller := p.client
		if s.C%5 == 4 {
			caller = p.limited
		}
		if o, ok := pick(at.offers, s.B); ok && s.Do == "authorise" {
			p.authorise(o, moments[int(s.C)%len(moments)], caller, false)
		} else if ok {
			for range 1 + s.C%4 {
				p.authorise(o, moments[0], caller, true)
			}
		}
	case "deliver":
		if a, ok := pick(at.approvals, s.B); ok {
			p.deliver(a, s.C%3 == 2, 0)
		}
	case "confirm", "guess", "prove", "same TAC":
		p.aboutTACs(at, s)
	case "ten":
		for range 12 - int(s.C%4) {
			p.authorise(at.initialise(100, terminals[0], false), moments[0], p.client, false)
		}
	case "tear":
		if a, ok := pick(at.approvals, s.B); ok {
			p.deliver(a, true, 1+int(s.C%8))
		}
	case "unload":
		at = p.slots[1] // the one purse that unloads
		p.authoriseUnload(at)
		if a, ok := pick(at.approvals, 0); ok && s.B%2 == 1 {
			p.deliver(a, false, 0)
		}
	case "foreign load":
		p.foreign(at, []policy.Caller{p.client, p.limited}[s.B%2])
	case "at once":
		p.atOnce(at, s)
	default:
		p.circumstance(at, s)
	}
}

// circumstance is what happens to the card, the clock and the signer by themselves.
func (p *play) circumstance(at *slot, s step) {
	switch s.Do {
	case "nothing":
	case "spend":
		at.card.spend(at.purse, 10)
	case "lose power":
		at.card.losePower()
	case "later":
		p.clock = p.clock.Add(time.Duration(s.B) * time.Second)
	case "clock":
		p.clock = p.clock.Add([]time.Duration{settlementLife + time.Second, -time.Hour, -settlementLife}[int(s.B)%3])
	case "restart":
		p.restart()
	case "unlock":
		p.unlock(at.card)
	case "reset":
		p.reissue(at.card)
	default:
		panic("no such step: " + s.Do)
	}
}

func (p *play) atTheCard(at *slot, s step) {
	amount, terminal := amounts[int(s.B)%len(amounts)], terminals[int(s.C)%len(terminals)]
	switch s.Do {
	case "initialise":
		at.initialise(amount, terminal, false)
	case "same random": // only while the balance is the same, or its TAC would be that of neither
		if o, ok := pick(at.offers, 0); ok && o.init.Balance == at.card.purses[at.purse].balance {
			at.initialise(amount, terminal, true)
		}
	case "collect":
		for range 1 + s.B%4 {
			at.initialise(amounts[0], terminals[0], false)
		}
	case "initialise for it":
		if b, ok := pick(at.settlements, s.B); ok {
			p.initialiseFor(at, b)
		}
	case "load":
		o := at.initialise(amount, terminal, false)
		known := len(at.approvals)
		p.authorise(o, moments[int(s.C)%len(moments)], p.client, false)
		if len(at.approvals) == known || s.B%4 == 3 {
			return // refused, or the signer's answer is lost
		}
		p.deliver(at.approvals[known], s.B%4 == 2, 0)
		if s.B%4 == 1 {
			p.aboutTACs(at, step{Do: []string{"confirm", "guess"}[s.C%2], C: s.C})
		}
	}
}

func (p *play) initialiseFor(at *slot, b *begun) *shown {
	terminal, err := purse.ParseTerminal(b.terminal)
	must(err)
	return at.initialise(1, terminal, false)
}

func (p *play) aboutSettlements(at *slot, s step) {
	if s.Do == "settle" {
		b, begun := pick(at.settlements, s.B)
		from := at
		if s.C%16 == 15 {
			from = p.slots[1]
		}
		if o, ok := pick(from.offers, s.C); ok && begun {
			p.settle(at, b, o, s.C%16 == 7)
		}
		return
	}
	before := len(at.settlements)
	p.begin(at)
	if s.Do == "begin" || len(at.settlements) == before {
		return
	}
	b := at.settlements[before]
	o := p.initialiseFor(at, b)
	if s.Do == "race a settlement" {
		p.race(at, b, s)
	}
	p.tries(at, b, o, s.C)
}

// tries shows a settlement's answer, in the ways that there are.
func (p *play) tries(at *slot, b *begun, o *shown, how byte) {
	switch how % 4 {
	case 1: // too late, and again after the clock was set back
		p.clock = p.clock.Add(settlementLife + time.Second)
		p.settle(at, b, o, false)
		p.clock = p.clock.Add(-settlementLife - time.Second)
	case 2: // and the same try again, and another
		p.settle(at, b, o, false)
		p.settle(at, b, o, false)
		o = p.initialiseFor(at, b)
	case 3: // a wrong one first
		p.settle(at, b, o, true)
	}
	p.settle(at, b, o, false)
}

// race is what a thief does between the settlement's answer and its being shown.
func (p *play) race(at *slot, b *begun, s step) {
	known := len(at.approvals)
	switch s.B % 5 {
	case 0: // has a load granted, and taken
		p.authorise(at.initialise(100, terminals[0], false), moments[0], p.client, false)
	case 1: // has the settlement's own answer granted, and taken
		p.authorise(at.offers[len(at.offers)-1], moments[0], p.client, false)
	case 2: // begins another settlement, then has a load granted, and taken
		p.begin(at)
		p.authorise(at.initialise(100, terminals[0], false), moments[0], p.client, false)
	case 3: // uses the settlement up with a second answer to it, then has a load granted, and taken
		p.settle(at, b, p.initialiseFor(at, b), false)
		p.authorise(at.initialise(100, terminals[0], false), moments[0], p.client, false)
	case 4: // lets another than the signer load the card, and proves it by a request that is refused
		p.foreign(at, p.limited)
	}
	if known < len(at.approvals) {
		p.deliver(at.approvals[known], true, 0)
	}
}

func (p *play) aboutTACs(at *slot, s step) {
	a, ok := pick(at.approvals, s.B)
	if !ok {
		return
	}
	switch s.Do {
	case "confirm":
		if tac, ok := pick(at.tacs, s.C); ok {
			p.confirm(a, tac)
		}
	case "guess": // wrong ones, each of them twice, then what the card proves
		for range s.C % 14 {
			p.wrongs++
			p.confirm(a, purse.MAC{0xEE, 0xEE, byte(p.wrongs >> 9), byte(p.wrongs >> 1)})
		}
		p.check() // takes note of the wrong ones
		p.aboutTACs(at, step{Do: "prove", B: s.B})
	case "prove":
		if tac, found := at.card.prove(at.purse); found {
			at.tacs = append(at.tacs, tac)
			p.confirm(a, tac)
		}
	case "same TAC": // of several that a TAC cannot tell apart, one is taken and the TAC shown for each
		p.indistinguishable(at, s)
	}
}

func (p *play) indistinguishable(at *slot, s step) {
	known := len(at.approvals)
	for range 2 {
		p.authorise(at.initialise(100, terminals[0], false), moments[0], p.client, false)
		if s.B%2 == 1 && len(at.approvals) == known+1 {
			p.aboutSettlements(at, step{Do: "settlement"})
		}
	}
	granted := at.approvals[known:]
	if len(granted) == 0 {
		return
	}
	p.deliver(granted[len(granted)-1], false, 0)
	if tac, ok := pick(at.tacs, 0); ok {
		for _, a := range granted {
			p.confirm(a, tac)
		}
	}
}

// foreign is a load that another than this signer authorised, at a counter with nothing open; the card proves it at once.
func (p *play) foreign(at *slot, caller policy.Caller) {
	for _, a := range at.approvals {
		if a.shown.counter() == at.counter() {
			return
		}
	}
	if p.locked(at.card) {
		return
	}
	n := purse.Counter(at.counter())
	o := at.card.initialise(at.purse, 100, terminals[1], false, false)
	d, t := purse.Date{0x20, 0x24, 0x01, 0x31}, purse.Time{}
	if _, took := at.card.credit(d, t, at.card.mac2(o, d, t), 0); !took {
		return
	}
	taken := at.card.purses[at.purse].taken[n]
	taken.foreign = true
	at.card.purses[at.purse].taken[n] = taken
	p.authorise(at.initialise(100, terminals[0], false), moments[0], caller, false)
}

// atOnce shows one answer twice at the same time, with different dates.
func (p *play) atOnce(at *slot, s step) {
	o, ok := pick(at.offers, s.B)
	if !ok {
		return
	}
	var answers [2]signer.Authorization
	asked := [2]moment{moments[int(s.C)%3], moments[int(s.C/3)%3]}
	var both sync.WaitGroup
	for i := range answers {
		both.Go(func() { answers[i] = p.ask(o, asked[i], p.client, false) })
	}
	both.Wait()
	locked := p.locked(at.card)
	for i := range answers {
		p.note(o, asked[i], false, answers[i])
	}
	p.glance()
	if locked != p.locked(at.card) {
		panic("a right answer locked a card")
	}
}
