package custody

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// What officers cannot have, each with its reason.
func TestWhatNoChangeDoes(t *testing.T) {
	c := stocked(t)
	active := applied(t, c, policy.ActivateKey, on(c, load(1), tac(1)))
	withTransport := applied(t, c, policy.ImportTransport, func(c *Change) {
		c.Transport = &TransportChange{Name: "bureau", Bits: 256, KCV: "0123456789", Components: 3}
	})
	officer := func(name, key string) func(*Change) {
		return func(c *Change) { c.Officer = &OfficerChange{Name: name, Key: key} }
	}
	keys := func(with func(*KeysChange)) func(*Change) {
		return func(c *Change) { creating(load(2))(c); with(c.Keys) }
	}
	def := func(with func(*Definition)) func(*Change) {
		return func(c *Change) { d := definition(); with(&d); c.KeySet = &d }
	}
	for name, r := range map[string]struct {
		in   Catalogue
		act  policy.Act
		with func(*Change)
		says string
	}{
		"an officer twice":                      {c, policy.AddOfficer, officer("bob", testOnlyKeyText("dave")), "is there already"},
		"one key for two officers":              {c, policy.AddOfficer, officer("dave", testOnlyKeyText("bob")), "officer bob's already"},
		"a key replaced by itself":              {c, policy.ReplaceOfficer, officer("bob", testOnlyKeyText("bob")), "officer bob's already"},
		"a key with a comment":                  {c, policy.AddOfficer, officer("dave", testOnlyKeyText("dave")+" dave@home"), "without options, comment"},
		"a key with options":                    {c, policy.AddOfficer, officer("dave", "no-pty "+testOnlyKeyText("dave")), "without options"},
		"two keys":                              {c, policy.AddOfficer, officer("dave", testOnlyKeyText("dave")+"\n"+testOnlyKeyText("eve")), "anything else"},
		"an officer whose name is a pattern":    {c, policy.AddOfficer, officer("*", testOnlyKeyText("dave")), "officer.name"},
		"an officer that is not there, removed": {c, policy.RemoveOfficer, officer("dave", ""), "no officer of that name: dave"},
		"a removal with a key":                  {c, policy.RemoveOfficer, officer("bob", testOnlyKeyText("bob")), "takes a name alone"},
		"a quorum that nobody can make":         {c, policy.SetQuorum, func(c *Change) { c.Quorum = &policy.Quorum{Default: 3} }, "too few officers"},
		"a quorum of none":                      {c, policy.SetQuorum, func(c *Change) { c.Quorum = &policy.Quorum{} }, "expected at least 1"},
		"a quorum of an act that nobody can make": {c, policy.SetQuorum, func(c *Change) {
			c.Quorum = &policy.Quorum{Default: 1, Acts: map[policy.Act]int{policy.AtProcess: 3}}
		}, "too few officers"},

		"a key set twice":              {c, policy.CreateKeySet, def(func(*Definition) {}), "is there already"},
		"a key set that is not there":  {c, policy.UpdateKeySet, def(func(d *Definition) { d.Name = "other" }), "there is no key set other"},
		"another algorithm under keys": {c, policy.UpdateKeySet, def(func(d *Definition) { d.Algorithm = suite.SM4 }), "has keys of 3DES"},
		"other factors under keys": {c, policy.UpdateKeySet, def(func(d *Definition) {
			d.Issuer, d.Factors = "fixed", []string{"0000000000000001"}
		}), "would derive other card keys"},
		"the machine's own zone":             {c, policy.UpdateKeySet, def(func(d *Definition) { d.TimeZone = "Local" }), "keySet.timeZone"},
		"factors that are not fixed":         {c, policy.UpdateKeySet, def(func(d *Definition) { d.Factors = []string{"0000000000000001"} }), "keySet.factors"},
		"a tac version of no KVER":           {c, policy.UpdateKeySet, def(func(d *Definition) { d.TACVersion = map[int]int{256: 1} }), "keySet.tacVersion"},
		"a tac version beyond":               {c, policy.UpdateKeySet, def(func(d *Definition) { d.TACVersion = map[int]int{1: 256} }), "keySet.tacVersion"},
		"a lock after no failure":            {c, policy.UpdateKeySet, def(func(d *Definition) { d.MAC1FailureLimit = 0 }), "mac1FailureLimit"},
		"a version twice":                    {c, policy.CreateKey, creating(load(1)), "a version is used once"},
		"a key twice in one change":          {c, policy.CreateKey, creating(load(2), load(2)), "each once"},
		"keys out of order":                  {c, policy.CreateKey, creating(tac(2), load(2)), "in the order of kinds"},
		"no keys":                            {c, policy.CreateKey, creating(), "keys.keys: 0"},
		"version 0":                          {c, policy.CreateKey, creating(load(0)), "expected 1 to 255"},
		"version 256":                        {c, policy.CreateKey, creating(load(256)), "expected 1 to 255"},
		"a copy without a backup key":        {c, policy.CreateKey, keys(func(k *KeysChange) { k.WithoutBackup = false }), "does not say that no copy is kept"},
		"a key of no set":                    {c, policy.CreateKey, keys(func(k *KeysChange) { k.Set = "other" }), "there is no key set other"},
		"a key without a boundary":           {c, policy.CreateKey, keys(func(k *KeysChange) { k.Keys[0].Boundary = 0 }), "boundary"},
		"a check value of what is not there": {c, policy.CreateKey, keys(func(k *KeysChange) { k.Keys[0].KCV = "ABCDEF" }), "not known yet"},
		"PROCESS beside TOKEN": {c, policy.CreateKey, keys(func(k *KeysChange) {
			k.Keys = append(k.Keys, KeyChange{Name: tac(2), Boundary: keyderive.BoundaryProcess})
		}), "an approval of its own"},
		"due before it is active": {c, policy.CreateKey, keys(func(k *KeysChange) {
			k.ActivateAt, k.Due = noon.Add(48*time.Hour), noon.Add(24*time.Hour)
		}), "keys.due"},
		"due in the past":            {c, policy.CreateKey, keys(func(k *KeysChange) { k.Due = noon.Add(-time.Hour) }), "keys.due"},
		"one component":              {c, policy.ImportKey, keys(func(k *KeysChange) { k.Keys[0].KCV, k.Keys[0].Components = "ABCDEF", 1 }), "components 1"},
		"neither components nor key": {c, policy.ImportKey, keys(func(k *KeysChange) { k.Keys[0].KCV = "ABCDEF" }), "not both"},
		"a transport key that is not there": {c, policy.ImportKey, keys(func(k *KeysChange) {
			k.Keys[0].KCV, k.Transport = "ABCDEF", "bureau"
		}), "no transport key bureau"},
		"a master that is there": {c, policy.ImportKey, keys(func(k *KeysChange) {
			k.Keys[0].KCV, k.Keys[0].Components = c.KeySet("demo").Key(tac(1)).KCV.Value, 2
		}), "two keys of one algorithm"},
		"another key than the one that is meant": {c, policy.ActivateKey, func(ch *Change) { on(c, load(1))(ch); ch.Keys.Keys[0].KCV = "000000" }, "not 000000"},
		"a key that is not there, activated":     {c, policy.ActivateKey, on(c, load(9)), "has no key load 9"},
		"a key activated twice":                  {active, policy.ActivateKey, on(active, load(1)), "is active"},
		"a key resumed that was not suspended":   {c, policy.ResumeKey, on(c, load(1)), "is pre-active"},
		"an active key destroyed":                {active, policy.DestroyKey, on(active, load(1)), "is active"},
		"a pre-active key deactivated":           {c, policy.DeactivateKey, on(c, load(1)), "is pre-active"},
		"two keys, of which one is in no state":  {active, policy.DestroyKey, on(active, load(1), tac(1)), "is active"},
		"an export without a transport key":      {c, policy.ExportKey, on(c, load(1)), "keys.transport: missing"},
		"a state and a boundary":                 {c, policy.SuspendKey, func(ch *Change) { on(c, load(1))(ch); ch.Keys.Keys[0].Boundary = 1 }, "boundary"},
		"a transport key twice": {withTransport, policy.ImportTransport, func(c *Change) {
			c.Transport = &TransportChange{Name: "bureau", Bits: 128, KCV: "012345", Components: 2}
		}, "is there already"},
		"a transport key of odd length":            {c, policy.ImportTransport, func(c *Change) { c.Transport = &TransportChange{Name: "x", Bits: 129, KCV: "012345", Components: 2} }, "transport.bits"},
		"another transport key destroyed":          {withTransport, policy.DestroyTransport, func(c *Change) { c.Transport = &TransportChange{Name: "bureau", KCV: "012345"} }, "not 012345"},
		"a backup that one officer brings back":    {c, policy.CreateBackup, func(c *Change) { c.Backup = &BackupChange{Threshold: 1, Holders: []string{"alice", "bob"}} }, "expected at least 2"},
		"a backup of more shares than holders":     {c, policy.CreateBackup, func(c *Change) { c.Backup = &BackupChange{Threshold: 3, Holders: []string{"alice", "bob"}} }, "at most as many"},
		"a backup held by who is no officer":       {c, policy.CreateBackup, func(c *Change) { c.Backup = &BackupChange{Threshold: 2, Holders: []string{"alice", "dave"}} }, "dave"},
		"a backup held by Vault and officers":      {c, policy.CreateBackup, func(c *Change) { c.Backup = &BackupChange{Threshold: 2, Holders: []string{"alice", "bob"}, Vault: "k"} }, "name alone"},
		"a purse of no key set":                    {c, policy.ResetPurse, func(c *Change) { c.Purse = &PurseChange{KeySet: "other", Card: "1", Purse: "EP"} }, "no key set other"},
		"a purse that is neither":                  {c, policy.ResetPurse, func(c *Change) { c.Purse = &PurseChange{KeySet: "demo", Card: "1", Purse: "EF"} }, "expected ED or EP"},
		"an act with what another takes":           {c, policy.ResetPurse, creating(load(2)), "purse.reset takes purse"},
		"an act without what it takes":             {c, policy.ResetPurse, func(*Change) {}, "purse: missing"},
		"an act that is none":                      {c, "key.copy", creating(load(2)), "act \"key.copy\""},
		"no reason":                                {c, policy.CreateKey, func(c *Change) { creating(load(2))(c); c.Reason = " " }, "reason"},
		"a reason that is no text":                 {c, policy.CreateKey, func(c *Change) { creating(load(2))(c); c.Reason = "\xff" }, "reason"},
		"an id that is none":                       {c, policy.CreateKey, func(c *Change) { creating(load(2))(c); c.ID = "1" }, "id"},
		"an author whose name is more than a name": {c, policy.CreateKey, func(c *Change) { creating(load(2))(c); c.Author = "alice bob" }, "author"},
		"a life of months":                         {c, policy.CreateKey, func(c *Change) { creating(load(2))(c); c.Expires = noon.Add(31 * 24 * time.Hour) }, "expires"},
		"an end before the beginning":              {c, policy.CreateKey, func(c *Change) { creating(load(2))(c); c.Expires = noon }, "expires"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.in.Propose(draft(r.act, r.with), noon)
			require.ErrorContains(t, err, r.says)
		})
	}
	for n := range 2 { // bob leaves three: the quorum is made by two
		_, err := c.Propose(draft(policy.RemoveOfficer, officer("bob", "")), noon)
		if n == 0 {
			require.NoError(t, err)
			c = applied(t, c, policy.RemoveOfficer, officer("carol", ""))
			continue
		}
		require.ErrorIs(t, err, ErrOfficersFew)
	}
}

// A change rests on what it was proposed for: what matters to it is in its base, and nothing else.
func TestBases(t *testing.T) {
	c := stocked(t)
	addDave := func(c *Change) { c.Officer = &OfficerChange{Name: "dave", Key: testOnlyKeyText("dave")} }
	other := func(c *Change) { d := definition(); d.Name = "other"; c.KeySet = &d }
	transport := func(c *Change) {
		c.Transport = &TransportChange{Name: "bureau", Bits: 168, KCV: "012345", Components: 2}
	}
	backup := func(c *Change) { c.Backup = &BackupChange{Threshold: 2, Holders: []string{"alice", "bob"}} }
	replaceBob := func(c *Change) { c.Officer = &OfficerChange{Name: "bob", Key: testOnlyKeyText("bob's new")} }
	withBackup := func(with func(*Change)) func(*Change) {
		return func(c *Change) { with(c); c.Keys.WithoutBackup = false }
	}
	backed := applied(t, c, policy.CreateBackup, backup)
	for _, r := range []struct {
		name    string
		in      Catalogue
		first   policy.Act
		with    func(*Change)
		between policy.Act
		change  func(*Change)
		stands  bool
	}{
		{"officers", c, policy.SetQuorum, func(c *Change) { c.Quorum = &policy.Quorum{Default: 2} }, policy.AddOfficer, addDave, false},
		{"a key of the set", c, policy.CreateKey, creating(load(2)), policy.ActivateKey, on(c, tac(1)), false},
		{"an officer, and a key", c, policy.CreateKey, creating(load(2)), policy.AddOfficer, addDave, true},
		{"another set", c, policy.CreateKey, creating(load(2)), policy.CreateKeySet, other, true},
		{"the same set", c, policy.CreateKeySet, other, policy.CreateKeySet, other, false},
		{"a transport key", c, policy.ImportTransport, transport, policy.ImportTransport, transport, false},
		{"the backup key, and a key with a copy", backed, policy.CreateKey, withBackup(creating(load(2))), policy.CreateBackup, backup, false},
		{"a holder", c, policy.CreateBackup, backup, policy.ReplaceOfficer, replaceBob, false},
		{"a purse, and a key", c, policy.ResetPurse, func(c *Change) { c.Purse = &PurseChange{KeySet: "demo", Card: "1", Purse: "EP"} }, policy.CreateKeySet, other, true},
	} {
		t.Run(r.name, func(t *testing.T) {
			change := proposed(t, r.in, r.first, r.with)
			after := applied(t, r.in, r.between, r.change)
			_, err := after.Apply(change, madeFor(after, change), noon)
			if r.stands {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrBaseChanged)
		})
	}
}

// While a node is at work in the token for one change of a set, no other change of it is applied; the one at work is.
func TestWorkInTheTokenHoldsItsSet(t *testing.T) {
	c := stocked(t)
	first, second := proposed(t, c, policy.CreateKey, creating(load(2))), proposed(t, c, policy.SuspendKey, on(c, load(1)))
	busy, err := c.Begin(first, noon)
	require.NoError(t, err)
	assert.Equal(t, c.Revision+1, busy.Revision)
	_, err = busy.Apply(second, Made{}, noon)
	require.ErrorIs(t, err, ErrBusy)
	done, err := busy.Apply(first, madeFor(c, first), noon)
	require.NoError(t, err)
	assert.Empty(t, done.KeySet("demo").Changing)
	assert.NotNil(t, done.KeySet("demo").Key(load(2)))
	idle := busy.End(first)
	_, err = idle.Apply(second, Made{}, noon)
	require.NoError(t, err, "and nothing was changed by work that came to nothing")
}

// A key that becomes active by itself is active then, and cannot be destroyed on the way.
func TestKeysThatBecomeActive(t *testing.T) {
	c := stocked(t)
	later := noon.Add(time.Hour)
	c = applied(t, c, policy.ActivateKey, func(ch *Change) { on(c, load(1))(ch); ch.Keys.ActivateAt = later })
	key := c.KeySet("demo").Key(load(1))
	assert.Equal(t, PreActive, key.At(later.Add(-time.Second)))
	assert.Equal(t, Active, key.At(later))
	_, err := c.Propose(draft(policy.DestroyKey, on(c, load(1))), noon)
	require.ErrorContains(t, err, "suspend it first")
	c = applied(t, c, policy.SuspendKey, on(c, load(1)))
	assert.Equal(t, Suspended, c.KeySet("demo").Key(load(1)).At(later.Add(time.Hour)), "a suspended key does not wake up")
	c = applied(t, c, policy.DestroyKey, on(c, load(1)))
	assert.Equal(t, Destroyed, c.KeySet("demo").Key(load(1)).State)
}

// What was made is exactly what was asked for, or nothing.
func TestWhatWasMadeIsHeldAgainstTheChange(t *testing.T) {
	c := stocked(t)
	change := proposed(t, c, policy.CreateKey, creating(load(2), tac(2)))
	for name, spoil := range map[string]func(m *Made){
		"a key less":        func(m *Made) { m.Keys = m.Keys[:1] },
		"another order":     func(m *Made) { m.Keys[0], m.Keys[1] = m.Keys[1], m.Keys[0] },
		"another set":       func(m *Made) { m.Keys[0].Set = "other" },
		"another label":     func(m *Made) { m.Keys[0].Label = "demo/load/3" },
		"another id":        func(m *Made) { m.Keys[0].ID = m.Keys[1].ID },
		"no check value":    func(m *Made) { m.Keys[0].KCV.Value = "" },
		"another algorithm": func(m *Made) { m.Keys[0].KCV.Algorithm = "SM4" },
		"a copy":            func(m *Made) { m.Keys[0].Wrapped = "00" },
		"one key twice":     func(m *Made) { m.Keys[0].KCV = m.Keys[1].KCV },
		"a key that is there": func(m *Made) {
			m.Keys[0].KCV = c.KeySet("demo").Key(load(1)).KCV
		},
	} {
		made := madeFor(c, change)
		spoil(&made)
		_, err := c.Apply(change, made, noon)
		assert.ErrorIs(t, err, ErrInvalid, name)
	}
	_, err := c.Apply(change, madeFor(c, change), noon)
	require.NoError(t, err)
}

// A new backup key takes a copy of every key that had one.
func TestCopiesAreMadeAnew(t *testing.T) {
	backup := func(c *Change) { c.Backup = &BackupChange{Threshold: 2, Holders: []string{"alice", "carol"}} }
	c := applied(t, stocked(t), policy.CreateBackup, backup)
	c = applied(t, c, policy.CreateKey, func(ch *Change) { creating(load(2))(ch); ch.Keys.WithoutBackup = false })
	old := c.KeySet("demo").Key(load(2)).Wrapped
	require.NotEmpty(t, old)
	change := proposed(t, c, policy.CreateBackup, backup)
	made := madeFor(c, change)
	next, err := c.Apply(change, made, noon)
	require.NoError(t, err)
	assert.NotEqual(t, old, next.KeySet("demo").Key(load(2)).Wrapped)
	assert.NotEqual(t, c.Backup.Label, next.Backup.Label)
	for name, spoil := range map[string]func(m *Made){
		"no copy":               func(m *Made) { m.Keys = nil },
		"a copy of what is not": func(m *Made) { m.Keys = append(m.Keys, MadeKey{Set: "demo", Name: load(7), Wrapped: "00"}) },
		"a share less":          func(m *Made) { m.Backup.Shares = m.Backup.Shares[:1] },
		"an empty share":        func(m *Made) { m.Backup.Shares[0].Ciphertext = "" },
		"another threshold":     func(m *Made) { m.Backup.Threshold = 1 },
		"no backup":             func(m *Made) { m.Backup = nil },
	} {
		made := madeFor(c, change)
		spoil(&made)
		_, err := c.Apply(change, made, noon)
		assert.ErrorIs(t, err, ErrInvalid, name)
	}
	destroyed := applied(t, next, policy.DestroyKey, on(next, load(2)))
	assert.Empty(t, destroyed.KeySet("demo").Key(load(2)).Wrapped, "a copy could bring it back")
}

func TestQuorums(t *testing.T) {
	c := stocked(t)
	q := policy.Quorum{Default: 1, Acts: map[policy.Act]int{policy.DestroyKey: 2, policy.AtProcess: 2}}
	c = applied(t, c, policy.SetQuorum, func(c *Change) { c.Quorum = &q })
	process := func(ch *Change) { creating(load(2))(ch); ch.Keys.Keys[0].Boundary = keyderive.BoundaryProcess }
	for _, r := range []struct {
		act  policy.Act
		with func(*Change)
		want int
	}{
		{policy.CreateKey, creating(load(2)), 1},
		{policy.CreateKey, process, 2},
		{policy.DestroyKey, on(c, load(1)), 2},
	} {
		n, err := c.QuorumFor(proposed(t, c, r.act, r.with))
		require.NoError(t, err)
		assert.Equal(t, r.want, n)
	}
	_, err := Catalogue{}.QuorumFor(Change{Act: policy.CreateKey})
	require.ErrorIs(t, err, ErrNoQuorum)
}

func TestFoundOnce(t *testing.T) {
	c := founded(t)
	assert.EqualValues(t, 1, c.Revision)
	_, err := c.Found(founded(t))
	require.ErrorContains(t, err, "officers already")
	for name, first := range map[string]Catalogue{
		"nobody":                     {Quorum: policy.Quorum{Default: 1}},
		"one alone":                  {Quorum: policy.Quorum{Default: 1}, Officers: []Officer{testOfficer("alice")}},
		"one with two names":         {Quorum: policy.Quorum{Default: 1}, Officers: []Officer{{Name: "a", Key: testOnlyKeyText("a")}, {Name: "b", Key: testOnlyKeyText("a")}}},
		"one twice":                  {Quorum: policy.Quorum{Default: 1}, Officers: []Officer{testOfficer("a"), {Name: "a", Key: testOnlyKeyText("b")}}},
		"no quorum":                  {Officers: []Officer{testOfficer("a"), testOfficer("b")}},
		"a quorum that is never met": {Quorum: policy.Quorum{Default: 2}, Officers: []Officer{testOfficer("a"), testOfficer("b")}},
		"a name that is a pattern":   {Quorum: policy.Quorum{Default: 1}, Officers: []Officer{testOfficer("a*"), testOfficer("b")}},
	} {
		_, err := Catalogue{}.Found(first)
		assert.ErrorIs(t, err, ErrInvalid, name)
	}
}
