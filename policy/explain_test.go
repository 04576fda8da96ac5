package policy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// said is what the policy with an id says of a request.
func said(t *testing.T, e Explanation, id string) Word {
	t.Helper()
	for _, w := range e.Words {
		if w.ID == id {
			return w
		}
	}
	t.Fatalf("no policy %s", id)
	return Word{}
}

func TestEveryPolicyIsExplained(t *testing.T) {
	p, caller := small(t, permitLoads, dayForbids, `
		@id("others") forbid (principal in Role::"reader", action, resource);
		@id("unloads") forbid (principal, action == Action::"AuthorizeUnload", resource);
		@id("elsewhere") forbid (principal, action, resource in KeySet::"hn-purse");
		@id("night") forbid (principal, action == Action::"AuthorizeLoad", resource) when { true } when { context.hour < 6 };
		@id("not-ep") forbid (principal, action == Action::"AuthorizeLoad", resource) unless { context has purse && context.purse == "EP" };`)
	r := load(caller, 100)
	r.Context.Time = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	e := p.Explain(r, Totals{})
	require.True(t, e.Allowed, e.Reason)
	for id, says := range map[string]string{
		"loads": "applies", "day": "its condition 1, a when, is not met", "others": `is not about Client::"gd"`,
		"unloads": `is not about Action::"AuthorizeLoad"`, "elsewhere": `is not about Key::"gd-purse/load"`,
		"night": "its condition 2, a when, is not met", "not-ep": "its condition 1, an unless, is met", builtinID: `is not about Client::"gd"`,
	} {
		assert.Equal(t, says, said(t, e, id).Says, id)
		assert.Equal(t, id == "loads", said(t, e, id).Applies, id)
	}
	e = p.Explain(r, Totals{CardDayFen: 5000})
	assert.False(t, e.Allowed)
	assert.Equal(t, []string{"day"}, e.Late)
	assert.Equal(t, Word{ID: "day", Document: "b", Line: 1, Effect: "forbid", Says: "applies", Applies: true}, said(t, e, "day"))
	r.Context.Time = time.Time{}
	e = p.Explain(r, Totals{})
	assert.False(t, e.Allowed)
	assert.Contains(t, said(t, e, "night").Says, "could not be judged, and so forbids: ")
	assert.True(t, said(t, e, "night").Applies)
}

const builtinID = "built-in-officers"

// What a policy says of a cell is what Decide says of its requests: Yes to all, No to all.
func TestCellsAreWhatIsDecided(t *testing.T) {
	rules := Rules{Clients: fiveClients(), Policies: append(Shipped(),
		Document{"more", `@id("big") forbid (principal, action == Action::"AuthorizeLoad", resource) when { context has amountFen && context.amountFen > 500 };
			@id("day") forbid (principal, action == Action::"AuthorizeUnload", resource) when { context.totals.cardDayFen > 1000 };
			@id("sm4") forbid (principal, action == Action::"ListEntries", resource) when { resource.algorithm == "SM4" };
			@id("no-block") forbid (principal, action == Action::"CardBlock", resource);
			@id("maybe") permit (principal in Role::"operator", action == Action::"Seal", resource) when { context.hour > 5 };`})}
	rules.Clients = append(rules.Clients, Client{Name: "op", Identity: "op", Role: Operator, KeySets: []string{"a"}},
		Client{Name: "gone", Identity: "gone", Role: Platform, KeySets: []string{"a"}, Suspended: true})
	p, err := New(rules)
	require.NoError(t, err)
	cells := p.Cells([]string{"a", "b"})
	assert.Equal(t, Verdict{Right: Some, Policies: []string{"big"}}, cells[Cell{"c1", Platform, "a", Action{Operation: AuthorizeLoad}}])
	assert.Equal(t, Verdict{Right: Some, Policies: []string{"day (late)"}}, cells[Cell{"c1", Platform, "a", Action{Operation: AuthorizeUnload}}])
	assert.Equal(t, Verdict{Right: No, Policies: []string{"no-block"}}, cells[Cell{"c1", Platform, "a", Action{SignCommand, CardBlock}}])
	assert.Equal(t, Verdict{Right: Yes}, cells[Cell{"c1", Platform, "a", Action{SignCommand, ApplicationBlock}}])
	assert.Equal(t, Verdict{}, cells[Cell{"c1", Platform, "b", Action{SignCommand, ApplicationBlock}}], "not its own")
	assert.Equal(t, Verdict{}, cells[Cell{"gone", Platform, "a", Action{Operation: ConfirmLoad}}], "suspended")
	assert.Equal(t, Verdict{Right: Some, Policies: []string{"sm4"}}, cells[Cell{"c4", Auditor, "a", Action{Operation: ListEntries}}])
	assert.Equal(t, Verdict{Right: Some, Policies: []string{"maybe"}}, cells[Cell{"op", Operator, "a", Action{Operation: Seal}}])
	assert.Equal(t, Verdict{Right: Yes}, cells[Cell{"c3", Officer, "", Action{Operation: ApproveChange}}])
	fen := []uint64{100, 1000}
	for cell, v := range cells {
		for i := range fen {
			ask := Asked{
				Client: cell.Client, Operation: string(cell.Action.Operation), Command: cell.Action.Command, KeySet: cell.KeySet, AmountFen: &fen[i],
				Algorithm: []string{"3DES", "SM4"}[i], Profile: "pboc-ep", Time: "2024-01-31T12:00:00+08:00", Totals: Totals{CardDayFen: uint64(i) * 5000},
			}
			r, err := ask.Request(p)
			require.NoError(t, err)
			if allowed := p.Explain(r, ask.Totals).Allowed; v.Right != Some {
				assert.Equal(t, v.Right == Yes, allowed, "%v", cell)
			}
		}
	}
}

// The right to encrypted updates brings every one-block command with it, one of the two is enough.
func TestEncryptedUpdatesImplyOneBlockCommands(t *testing.T) {
	forbid := func(actions string) *Policy {
		p, err := New(Rules{Clients: fiveClients(), Policies: append(Shipped(), Document{"less", `@id("x") forbid (principal, action in [` + actions + `], resource);`})})
		require.NoError(t, err)
		return p
	}
	one := Implied{Client: "c1", KeySet: "a", By: []string{EncryptedUpdateRecord}, All: oneBlock, Denied: []string{CardBlock}}
	assert.Equal(t, []Implied{one}, forbid(`Action::"EncryptedUpdateBinary", Action::"CardBlock"`).Implications([]string{"a", "b"}))
	assert.Empty(t, forbid(`Action::"EncryptedUpdateBinary", Action::"EncryptedUpdateRecord"`).Implications([]string{"a", "b"}))
	assert.Equal(t, []string{"c1 on a"}, forbid(`Action::"CardBlock"`).Challengers([]string{"a", "b"}))
	assert.Empty(t, forbid(`Action::"AuthenticateExternal"`).Challengers([]string{"a", "b"}))
	for _, command := range oneBlock {
		assert.Equal(t, "maintenance", SignCommand.Kind(command), "they are all of the key that the updates are of")
	}
	for _, command := range oracles {
		assert.Equal(t, "maintenance", SignCommand.Kind(command))
		assert.True(t, Oracle(command))
	}
}

// The schema has an action for each operation and command, about what their requests are about, and no other.
func TestTheSchemaHasEveryAction(t *testing.T) {
	s := theSchema()
	names := map[string]bool{}
	for _, a := range Actions() {
		name := a.Operation.Action(a.Command)
		names[name] = true
		names[string(a.Operation)] = true
		asked := newAsked(Client{Name: "c", Role: Platform}, newQuestion(Client{}, Request{
			Operation: a.Operation, KeySet: map[bool]string{true: "gd-purse"}[a.Operation.OfKeySet()], Context: Context{Command: a.Command},
		}))
		declared, ok := s.Actions[asked.action]
		require.True(t, ok, name)
		assert.Equal(t, asked.resource.Type, declared.AppliesTo.Resources[0], name)
		assert.Len(t, declared.AppliesTo.Resources, 1, name)
		_, hasTotals := declared.AppliesTo.Context[totalsAttribute]
		assert.Equal(t, a.Operation == AuthorizeLoad || a.Operation == AuthorizeUnload, hasTotals, name)
	}
	for uid := range s.Actions {
		assert.True(t, names[string(uid.ID)], "%v", uid)
	}
	for group := range parts {
		for _, p := range parts[group] {
			assert.Contains(t, KeyKinds(), p.kind)
		}
	}
	for _, kind := range kinds {
		assert.Contains(t, KeyKinds(), kind)
	}
}

// Every byte that officers approve is in the digest, comments too; the order of the lists is not.
func TestTheDigestCoversEveryByte(t *testing.T) {
	digest := func(r Rules) string {
		p, err := New(r)
		require.NoError(t, err)
		return p.Digest()
	}
	rules := func() Rules {
		return Rules{Clients: fiveClients(), Policies: []Document{{"one", "// a\n" + permitLoads}, {"two", dayForbids}}}
	}
	first := digest(rules())
	for name, change := range map[string]func(*Rules){
		"a comment":         func(r *Rules) { r.Policies[0].Text = "// b\n" + permitLoads },
		"a space":           func(r *Rules) { r.Policies[0].Text += " " },
		"a document's name": func(r *Rules) { r.Policies[0].Name = "uno" },
		"a document more": func(r *Rules) {
			r.Policies = append(r.Policies, Document{"x", `@id("x") forbid (principal, action == Action::"Seal", resource);`})
		},
		"a document less":    func(r *Rules) { r.Policies = r.Policies[:1] },
		"a client less":      func(r *Rules) { r.Clients = r.Clients[1:] },
		"a client's role":    func(r *Rules) { r.Clients[0].Role = Reader },
		"a client's key set": func(r *Rules) { r.Clients[0].KeySets = []string{"z"} },
		"a suspension":       func(r *Rules) { r.Clients[0].Suspended = true },
		"an identity":        func(r *Rules) { r.Clients[0].Identity += "x" },
	} {
		changed := rules()
		change(&changed)
		assert.NotEqual(t, first, digest(changed), name)
	}
	same := rules()
	same.Policies[0], same.Policies[1] = same.Policies[1], same.Policies[0]
	same.Clients[0], same.Clients[4] = same.Clients[4], same.Clients[0]
	same.Clients[1].KeySets = append([]string{}, same.Clients[1].KeySets...)
	assert.Equal(t, first, digest(same))
	assert.Equal(t, digest(Rules{Policies: Shipped()}), digest(Rules{}), "the shipped documents stand for none, and are in the digest")
}
