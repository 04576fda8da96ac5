package custody

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// testOnlyKey is an officer's SSH key, of a seed that is published here.
func testOnlyKey(name string) ssh.Signer {
	seed := sha256.Sum256([]byte("pursekeeper test officer " + name))
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return signer
}

func testOnlyKeyText(name string) string { return OfficerKeyText(testOnlyKey(name).PublicKey()) }

func testOfficer(name string) Officer {
	return Officer{Name: name, Key: testOnlyKeyText(name), Since: noon}
}

// officersRules are rules with a client for each officer.
func officersRules(names ...string) (rules policy.Rules) {
	for _, name := range names {
		rules.Clients = append(rules.Clients, testClient(name, policy.Officer))
	}
	rules.Policies = policy.Shipped()
	return rules
}

func testClient(name string, role policy.Role) policy.Client {
	return policy.Client{Name: name, Identity: "spiffe://test/" + name, Role: role, KeySets: []string{"demo"}}
}

// testPolicy is a document that lets auditors do one thing, by a policy of that name.
func testPolicy(id, operation string) string {
	return "// for auditors\n@id(\"" + id + "\")\npermit (principal in Role::\"auditor\", action == Action::\"" + operation + "\", resource);\n"
}

// founded is a catalogue with three officers, of whom one beside the author approves.
func founded(t testing.TB) Catalogue {
	t.Helper()
	c, err := Catalogue{}.Found(Catalogue{
		Quorum:   policy.Quorum{Default: 1},
		Officers: []Officer{testOfficer("carol"), testOfficer("alice"), testOfficer("bob")},
		Rules:    officersRules("carol", "alice", "bob", "dave", "eve"),
	})
	require.NoError(t, err)
	return c
}

func definition() Definition {
	return Definition{Name: "demo", Algorithm: suite.TDES, Profile: "pboc", TimeZone: "Asia/Shanghai", MAC1FailureLimit: 10}
}

var changes int

// draft is a change by alice that is not proposed yet.
func draft(act policy.Act, with func(*Change)) Change {
	changes++
	sum := sha256.Sum256(fmt.Append(nil, changes))
	c := Change{
		ID: fmt.Sprintf("%x", sum[:16]), Act: act, Author: "alice", Reason: "a test", Proposed: noon, Expires: noon.Add(DefaultLife),
	}
	with(&c)
	return c
}

func proposed(t testing.TB, c Catalogue, act policy.Act, with func(*Change)) Change {
	t.Helper()
	change, err := c.Propose(draft(act, with), noon)
	require.NoError(t, err)
	return change
}

// applied is the catalogue after a change.
func applied(t testing.TB, c Catalogue, act policy.Act, with func(*Change)) Catalogue {
	t.Helper()
	change := proposed(t, c, act, with)
	next, err := c.Apply(change, madeFor(c, change), noon)
	require.NoError(t, err)
	return next
}

// madeFor is what a token would have made for the change.
func madeFor(c Catalogue, change Change) (made Made) {
	switch change.Act {
	case policy.CreateKey, policy.ImportKey:
		set := c.KeySet(change.Keys.Set)
		for _, k := range change.Keys.Keys {
			label := Label(set.Name, k.Name)
			m := MadeKey{Set: set.Name, Name: k.Name, Label: label, ID: ObjectID(change.ID, label)}
			sum := sha256.Sum256([]byte(change.ID + label))
			m.KCV = CheckValue{Value: fmt.Sprintf("%X", sum[:3]), Algorithm: set.Algorithm.String()}
			if k.KCV != "" {
				m.KCV.Value = k.KCV
			}
			if !change.Keys.WithoutBackup {
				m.Wrapped = fmt.Sprintf("%x", sum[:24])
			}
			made.Keys = append(made.Keys, m)
		}
	case policy.ImportTransport:
		made.Transport = &MadeTransport{KCV: change.Transport.checkValue(), Label: "pursekeeper/transport/" + change.Transport.Name}
	case policy.CreateBackup:
		made.Backup = &Backup{KCV: CheckValue{"ABCDEF", "AES-KW"}, Label: "pursekeeper/backup/" + change.ID, Threshold: change.Backup.Threshold}
		for _, h := range change.Backup.Holders {
			made.Backup.Shares = append(made.Backup.Shares, Share{Holder: h, Recipient: "x", Ciphertext: "c"})
		}
		for _, set := range c.KeySets {
			for _, k := range set.Keys {
				if k.Wrapped != "" {
					made.Keys = append(made.Keys, MadeKey{Set: set.Name, Name: k.Name, Wrapped: fmt.Sprintf("%x", change.ID+k.Label)})
				}
			}
		}
	}
	return made
}

func load(version int) Name { return Name{keyderive.KindLoad, version} }
func tac(version int) Name  { return Name{keyderive.KindTAC, version} }

// creating makes keys of demo at TOKEN, without a copy.
func creating(names ...Name) func(*Change) {
	return func(c *Change) {
		c.Keys = &KeysChange{Set: "demo", WithoutBackup: true}
		for _, n := range names {
			c.Keys.Keys = append(c.Keys.Keys, KeyChange{Name: n, Boundary: keyderive.BoundaryToken})
		}
	}
}

// on names keys that are there.
func on(c Catalogue, names ...Name) func(*Change) {
	return func(change *Change) {
		change.Keys = &KeysChange{Set: "demo"}
		for _, n := range names {
			k := KeyChange{Name: n, KCV: "000000"}
			if known := c.KeySet("demo").Key(n); known != nil {
				k.KCV = known.KCV.Value
			}
			change.Keys.Keys = append(change.Keys.Keys, k)
		}
	}
}

// stocked is founded with a key set and two keys that are pre-active.
func stocked(t testing.TB) Catalogue {
	t.Helper()
	c := applied(t, founded(t), policy.CreateKeySet, func(c *Change) { d := definition(); c.KeySet = &d })
	return applied(t, c, policy.CreateKey, creating(load(1), tac(1)))
}
