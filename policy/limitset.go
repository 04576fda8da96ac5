package policy

// limit reads all limits of the rules: those of the list of clients, those of the document, and what keeps the running totals that policies
// mention. The result is what is wrong with them.
func (p *Policy) limit(rules Rules) (problems []Problem) {
	p.limits = limitsOfClients(rules.Clients)
	if rules.Limits != nil {
		var read []*Limit
		read, p.signals, problems = readLimits(*rules.Limits, rules.Clients)
		p.limits = append(p.limits, read...)
	}
	p.limits = append(p.limits, p.mentioned()...)
	for _, l := range p.limits {
		l.scope = l.Scope()
	}
	return problems
}

// limitsOfClients are those that the list of clients itself has: the largest amount of one transaction.
func limitsOfClients(clients []Client) (limits []*Limit) {
	for _, c := range clients {
		if c.MaxAmountFen > 0 {
			limits = append(limits, &Limit{
				Name: "maxAmountFen of client " + c.Name, Operations: limitable, Clients: []string{c.Name},
				Per: PerTransaction, MaxFen: int64(min(c.MaxAmountFen, mostFen)), //nolint:gosec // no more than fits
			})
		}
	}
	return limits
}

// mentioned keeps the running totals that policies mention: of every request, for a policy that is about one client sees what all did.
func (p *Policy) mentioned() (limits []*Limit) {
	found := map[TotalName]bool{}
	for _, r := range p.rules {
		for _, name := range r.totals {
			found[name] = true
		}
	}
	for _, kept := range []Limit{
		{Total: CardDayFen, Per: PerCard, Period: Day},
		{Total: CardHourCount, Per: PerCard, Period: Hour},
		{Total: ClientDayFen, Per: PerClient, Period: Day},
		{Total: TerminalDayFen, Per: PerTerminal, Period: Day},
	} {
		if found[kept.Total] {
			kept.Name, kept.Operations = string(kept.Total), []Operation{AuthorizeLoad, AuthorizeUnload}
			limits = append(limits, &kept)
		}
	}
	return limits
}

// limitsOf are the limits of a question's requests, whatever their purse and terminal.
func (p *Policy) limitsOf(q question) (limits []*Limit) {
	client := p.clients[q.client]
	s := Subject{Operation: Operation(q.action), KeySet: q.keySet, Client: client.Name, Role: client.Role}
	for _, l := range p.limits {
		if l.mayApply(s) {
			limits = append(limits, l)
		}
	}
	return limits
}

// Limits are the limits that apply to what g was given for, but for those that Covers says are of another purse or terminal. Nobody may
// write to them.
func (g Grant) Limits() []*Limit { return g.limits }

// Signals are what is watched, and from when on it alarms.
func (p *Policy) Signals() Signals { return p.signals }
