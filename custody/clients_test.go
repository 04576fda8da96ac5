package custody

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

func naming(name string) func(*Change) {
	return func(c *Change) { c.Client = &ClientChange{Name: name} }
}

func client1(name string, role policy.Role, sets ...string) func(*Change) {
	return func(c *Change) {
		c.Client = &ClientChange{Name: name, Identity: "spiffe://test/" + name, Role: role, KeySets: sets}
	}
}

func putting(name, text string) func(*Change) {
	return func(c *Change) { c.Policy = &PolicyChange{Put: []DocumentChange{{Name: name, Text: text}}} }
}

func removing(name string) func(*Change) {
	return func(c *Change) { c.Policy = &PolicyChange{Remove: []DocumentRemoval{{Name: name}}} }
}

// What no change does to clients and policies, each with its reason; and the catalogue stays as it was.
func TestWhatNoChangeOfRulesDoes(t *testing.T) {
	c := applied(t, stocked(t), policy.AddClient, client1("platform", policy.Platform, "demo"))
	suspended := applied(t, c, policy.SuspendClient, naming("platform"))
	with := func(change func(*Change), more func(*ClientChange)) func(*Change) {
		return func(c *Change) { change(c); more(c.Client) }
	}
	for name, r := range map[string]struct {
		in   Catalogue
		act  policy.Act
		with func(*Change)
		says string
	}{
		"a client twice": {c, policy.AddClient, client1("platform", policy.Reader), "is there already"},
		"a certificate for two clients": {
			c, policy.AddClient,
			with(client1("x", policy.Reader), func(c *ClientChange) { c.Identity = "spiffe://test/bob" }),
			"bob",
		},
		"a client without identity": {
			c, policy.AddClient,
			with(client1("x", policy.Reader), func(c *ClientChange) { c.Identity = "" }),
			"client.identity",
		},
		"a common name": {
			c, policy.AddClient,
			with(client1("x", policy.Reader), func(c *ClientChange) { c.Identity = "CN=x" }),
			"client.identity",
		},
		"a pattern": {
			c, policy.AddClient,
			with(client1("x", policy.Reader), func(c *ClientChange) { c.Identity = "*.example.org" }),
			"client.identity",
		},
		"a role of no program":     {c, policy.AddClient, client1("x", "root"), `client.role "root"`},
		"key sets out of order":    {c, policy.AddClient, client1("x", policy.Reader, "b", "a"), "keySets: expected each once"},
		"a key set of no name":     {c, policy.AddClient, client1("x", policy.Reader, "B"), "a key set's name"},
		"a name that is a pattern": {c, policy.AddClient, client1("*", policy.Reader), "client.name"},
		"what a new client was": {
			c, policy.AddClient,
			with(client1("x", policy.Reader), func(c *ClientChange) { c.Was = &policy.Client{Name: "x"} }),
			"client.was",
		},
		"a client that is not there": {c, policy.ReplaceClient, client1("x", policy.Reader), "there is no client x"},
		"a client as it is":          {c, policy.ReplaceClient, client1("platform", policy.Platform, "demo"), "is so already"},
		"a removal with a role":      {c, policy.RemoveClient, client1("platform", policy.Platform), "takes a name alone"},
		"what a client was not": {
			c, policy.RemoveClient,
			with(naming("platform"), func(c *ClientChange) { c.Was = &policy.Client{Name: "platform"} }),
			"not as the change says",
		},
		"a resumption of who may call": {c, policy.ResumeClient, naming("platform"), "is not suspended"},
		"a suspension of who is":       {suspended, policy.SuspendClient, naming("platform"), "is suspended already"},
		"no policy": {
			c, policy.SetPolicy,
			func(c *Change) { c.Policy = &PolicyChange{} },
			"expected put, remove or limits",
		},
		"an empty document":               {c, policy.SetPolicy, putting("a", " \n"), "not nothing"},
		"a document that is no UTF-8":     {c, policy.SetPolicy, putting("a", "// \xff"), "UTF-8"},
		"a document whose name is a path": {c, policy.SetPolicy, putting("../a", "//"), "policy.put[0].name"},
		"a document that is so already":   {c, policy.SetPolicy, putting("officer", document(c.Rules, "officer")), "is so already"},
		"what a document was not": {c, policy.SetPolicy, func(c *Change) {
			putting("officer", testPolicy("a", "GetTransaction"))(c)
			c.Policy.Put[0].Was = digest([]byte("x"))
		}, "not as the change says"},
		"a removal of what is not there": {c, policy.SetPolicy, removing("a"), "there is no document a"},
		"a syntax error":                 {c, policy.SetPolicy, putting("a", "// one\npermit (principal, action, resource)\n"), "a:"},
		"an action that there is not":    {c, policy.SetPolicy, putting("a", testPolicy("a", "AuthoriseLoad")), "a:3:"},
		"a key set that is not there": {
			c, policy.SetPolicy,
			putting("a", strings.Replace(testPolicy("a", "GetTransaction"), "resource)", "resource in KeySet::\"dmeo\")", 1)),
			`a:3:`,
		},
		"a client's key set that is not there": {c, policy.AddClient, client1("x", policy.Reader, "dmeo"), `unknown key set "dmeo"`},
		"an id that another document has": {
			c, policy.SetPolicy,
			putting("a", testPolicy("officer-looks", "GetTransaction")),
			"officer-looks",
		},
		"a limit document that is not text": {
			c, policy.SetPolicy,
			func(c *Change) { c.Policy = &PolicyChange{Limits: &LimitsChange{}} },
			"policy.limits.text",
		},
		"limits removed that are not there": {
			c, policy.SetPolicy,
			func(c *Change) { c.Policy = &PolicyChange{Limits: &LimitsChange{Remove: true}} },
			"policy.limits.was",
		},
		"limits removed, with a text": {
			c, policy.SetPolicy,
			func(c *Change) { c.Policy = &PolicyChange{Limits: &LimitsChange{Remove: true, Text: "x"}} },
			"policy.limits.text",
		},
		"a document put and removed": {c, policy.SetPolicy, func(c *Change) {
			putting("officer", "// x\n")(c)
			removing("officer")(c)
			c.Policy.Put = []DocumentChange{{Name: "officer", Text: "// x\n"}}
		}, "is put, too"},
		"the last document removed": {c, policy.SetPolicy, func(ch *Change) {
			ch.Policy = &PolicyChange{}
			for _, d := range c.Rules.Policies {
				ch.Policy.Remove = append(ch.Policy.Remove, DocumentRemoval{Name: d.Name})
			}
		}, "no policy document"},
		"a quorum of what is done at once": {c, policy.SetQuorum, func(c *Change) {
			c.Quorum = &policy.Quorum{Default: 1, Acts: map[policy.Act]int{policy.SuspendClient: 1}}
		}, "done at once"},
	} {
		before, err := r.in.Encode()
		require.NoError(t, err)
		_, err = r.in.Propose(draft(r.act, r.with), noon)
		require.Error(t, err, name)
		assert.ErrorContains(t, err, r.says, name)
		assert.NotEmpty(t, Reason(err), name)
		after, err := r.in.Encode()
		require.NoError(t, err)
		assert.Equal(t, string(before), string(after), name)
	}
}

// A change that was right when it was proposed and makes rules that cannot be used when it is applied is refused then: two documents with one
// policy's name, each of them right alone.
func TestRulesAreCompiledWhenAChangeIsApplied(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 1}, nil)
	w.does(policy.SetPolicy, putting("a", testPolicy("one", "GetTransaction")))
	add := w.propose("alice", policy.AddClient, client1("x", policy.Reader))
	other := w.propose("alice", policy.AddClient, func(c *Change) {
		client1("y", policy.Reader)(c)
		c.Client.Identity = "spiffe://test/x"
	})
	_, err := w.approve("bob", add)
	require.NoError(t, err)
	before := w.catalogue().Rules
	r, err := w.approve("bob", other)
	require.ErrorIs(t, err, ErrInvalid)
	assert.ErrorContains(t, err, "spiffe://test/x")
	assert.Equal(t, store.RequestFailed, r.State)
	assert.Equal(t, before, w.catalogue().Rules, "the rules in force stay")
}

// Whoever has a certificate that acts for an officer approves what it proposes: such a client takes as many approvals as the act that takes most.
func TestOfficersClientsTakeTheLargestQuorum(t *testing.T) {
	c := stocked(t)
	c = applied(t, c, policy.SetQuorum, func(c *Change) {
		c.Quorum = &policy.Quorum{Default: 1, Acts: map[policy.Act]int{policy.DestroyKey: 2}}
	})
	for _, r := range []struct {
		act  policy.Act
		with func(*Change)
		want int
	}{
		{policy.AddClient, client1("x", policy.Reader), 1}, {policy.AddClient, client1("x", policy.Officer), 2},
		{policy.ReplaceClient, func(c *Change) { client1("bob", policy.Officer)(c); c.Client.Identity = "spiffe://test/mallory" }, 2},
		{policy.RemoveClient, naming("eve"), 1}, {policy.SetPolicy, putting("a", testPolicy("a", "GetTransaction")), 1},
	} {
		n, err := c.QuorumFor(proposed(t, c, r.act, r.with))
		require.NoError(t, err)
		assert.Equal(t, r.want, n, r.act)
	}
	n, err := c.QuorumFor(Change{Act: policy.SuspendClient, Client: &ClientChange{Name: "x"}})
	require.NoError(t, err)
	assert.Zero(t, n)
	_, err = Catalogue{}.QuorumFor(Change{Act: policy.SuspendClient})
	require.ErrorIs(t, err, ErrNoQuorum)
}

// Who takes an officer's client away takes the officer out of office, and needs as many as for that.
func TestAnOfficersClientGoesAsTheOfficerDoes(t *testing.T) {
	c := applied(t, stocked(t), policy.SetQuorum, func(c *Change) {
		c.Quorum = &policy.Quorum{Default: 1, Acts: map[policy.Act]int{policy.RemoveOfficer: 2}}
	})
	was := testClient("bob", policy.Officer)
	for _, act := range []policy.Act{policy.RemoveClient, policy.ReplaceClient} {
		for want, one := range map[int]ClientChange{
			2: {Name: "bob", Role: policy.Reader, Was: &was}, 1: {Name: "gd", Role: policy.Reader, Was: &policy.Client{Name: "gd", Role: policy.Platform}},
		} {
			n, err := c.QuorumFor(Change{Act: act, Client: &one})
			require.NoError(t, err)
			assert.Equal(t, want, n, "%s %s", act, one.Name)
		}
	}
}

// What officers read is what they sign for: documents and clients as they were and as they become.
func TestWordsOfRules(t *testing.T) {
	c := applied(t, stocked(t), policy.SetPolicy, putting("a", testPolicy("a", "GetTransaction")))
	words := proposed(t, c, policy.SetPolicy, putting("a", testPolicy("a", "ListTransactions"))).Words()
	for _, says := range []string{
		"CHANGED      document a", "was SHA-256  " + digest([]byte(testPolicy("a", "GetTransaction"))),
		"is SHA-256   " + digest([]byte(testPolicy("a", "ListTransactions"))), `line 1       "// for auditors"`,
	} {
		assert.Contains(t, words, says)
	}
	words = proposed(t, c, policy.SetPolicy, removing("a")).Words()
	assert.Contains(t, words, "REMOVED      document a")
	words = proposed(t, c, policy.ReplaceClient, func(c *Change) { client1("bob", policy.Officer)(c) }).Words()
	assert.Contains(t, words, "sets         no key set")
	assert.Contains(t, words, "was sets     demo")
	assert.Contains(t, words, "WARNING      OFFICER")

	hostile := "@id(\"x\")\n// \x1b[2J\u202e\r  approvals    0\n  CHANGED      document b\n"
	words = (Change{Act: policy.SetPolicy, Policy: &PolicyChange{Put: []DocumentChange{{Name: "a", Text: hostile}}}}).Words()
	assert.NotContains(t, words, "\x1b")
	assert.NotContains(t, words, "\u202e")
	assert.Equal(t, 1, strings.Count(words, "\n  NEW "), words)
	assert.Zero(t, strings.Count(words, "\n  CHANGED"), words)
}

// A policy as large as a change may be is proposed, approved and applied, and so is nothing larger.
func TestALargeChangeFitsTheRecord(t *testing.T) {
	w := newWorld(t, policy.Quorum{Default: 1}, nil)
	of := func(n int) func(*Change) {
		return putting("large", testPolicy("large", "GetTransaction")+strings.Repeat("/", n)+"\n")
	}
	bound := 0
	for n, step := 1, 1<<15; step > 0; step /= 2 {
		change := proposed(t, *w.catalogue(), policy.SetPolicy, of(n+step))
		if _, err := change.Encode(); err == nil {
			n += step
		}
		bound = n
	}
	require.Greater(t, bound, 47<<10)
	r := w.propose("alice", policy.SetPolicy, of(bound))
	_, err := w.tryPropose("alice", policy.SetPolicy, of(bound+1))
	require.ErrorIs(t, err, ErrMalformed)
	assert.ErrorContains(t, err, "49153 bytes in an entry of the record, expected at most 49152")
	r, err = w.approve("bob", r)
	require.NoError(t, err)
	assert.Equal(t, store.RequestApplied, r.State)
	assert.Len(t, document(w.catalogue().Rules, "large"), bound+len(testPolicy("large", "GetTransaction"))+1)

	longest := audit.Entry{
		Time: noon, Event: audit.ChangeApproved, Client: strings.Repeat("o", 63), Role: policy.Officer, Policy: strings.Repeat("0", 64),
		Outcome: "EXECUTING", Detail: "9 of 9 approvals", Change: &audit.Change{
			ID: r.ID, Act: string(policy.SetPolicy), Bytes: string(r.Body), Officer: strings.Repeat("o", 63),
			OfficerKey: "ssh-rsa " + strings.Repeat("A", 2800), Signature: strings.Repeat(strings.Repeat("A", 70)+"\n", maxSignature/71),
			Revision: 1 << 60, Catalogue: strings.Repeat("0", 64),
		},
	}
	_, err = longest.Encode()
	require.NoError(t, err, "the largest change, with the longest signature by the longest key")
	_, err = DecodeDraft([]byte(`{"act":"policy.set","reason":"` + strings.Repeat("x", maxDraft) + `"}`))
	require.ErrorContains(t, err, "expected at most 61440")
}

// Rules that are larger than an entry are registered in several, and read together they are the rules.
func TestRulesAreRegisteredInParts(t *testing.T) {
	c := founded(t)
	for _, name := range []string{"a", "b", "c"} {
		c.Rules.Policies = append(c.Rules.Policies, policy.Document{Name: name, Text: strings.Repeat("<", 6000) + "\n"})
	}
	c.Rules.Limits = &policy.Document{Name: policy.LimitsDocument, Text: "limits: []\n"}
	entries, err := Registered(c, "d", noon)
	require.NoError(t, err)
	require.Greater(t, len(entries), 2)
	var joined policy.Rules
	for i, e := range entries {
		_, err := e.Encode()
		require.NoError(t, err)
		if i == 0 {
			continue
		}
		part, err := DecodeRules([]byte(e.Change.Bytes))
		require.NoError(t, err)
		joined = Joined(joined, part)
	}
	assert.Equal(t, c.Rules, joined)
	_, err = DecodeRules([]byte(`{"clients":null}`))
	require.ErrorIs(t, err, ErrNotCanonical)
}
