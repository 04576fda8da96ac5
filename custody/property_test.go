package custody

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// Whatever officers ask for, in whatever order: the catalogue keeps its invariants, a change that is refused changes nothing, Apply changes nothing
// of what it was given, a key's state goes only where it may, a version and a check value are used once, and what is written is read again.
func TestAnySequenceOfChanges(t *testing.T) {
	done := map[policy.Act]int{}
	first := applied(t, stocked(t), policy.ImportTransport, func(c *Change) {
		c.Transport = &TransportChange{Name: "a", Bits: 128, KCV: "012345", Components: 2}
	})
	rapid.Check(t, func(t *rapid.T) {
		c, now := first, noon
		for range rapid.IntRange(30, 60).Draw(t, "changes") {
			now = now.Add(time.Duration(rapid.IntRange(0, 7200).Draw(t, "seconds")) * time.Second)
			c = step(t, c, now, done)
		}
	})
	for _, act := range policy.Acts() {
		require.NotZero(t, done[act], "%s was never applied: this test says nothing of it", act)
	}
}

// mostlyKeys are all acts, those on keys more often.
var mostlyKeys = append(policy.Acts(), slices.Concat(onKeys, onKeys, onKeys, onRules, onRules)...)

var onRules = []policy.Act{policy.AddClient, policy.ReplaceClient, policy.RemoveClient, policy.SuspendClient, policy.ResumeClient, policy.SetPolicy}

var onKeys = []policy.Act{
	policy.CreateKey, policy.CreateKey, policy.ImportKey, policy.ExportKey, policy.ActivateKey, policy.SuspendKey, policy.ResumeKey, policy.DeactivateKey,
	policy.CompromiseKey, policy.DestroyKey,
}

func step(t *rapid.T, c Catalogue, now time.Time, done map[policy.Act]int) Catalogue {
	before, err := c.Encode()
	require.NoError(t, err)
	asked := draft(rapid.SampledFrom(mostlyKeys).Draw(t, "act"), func(*Change) {})
	asked.Proposed, asked.Expires = now, now.Add(DefaultLife)
	drawMember(t, c, &asked, now)
	change, err := c.Propose(asked, now)
	if err != nil {
		return c
	}
	line, err := change.Encode()
	require.NoError(t, err)
	read, err := DecodeChange(line)
	require.NoError(t, err)
	require.Equal(t, change, read)
	made := madeFor(c, change)
	if len(made.Keys) > 0 && rapid.IntRange(0, 9).Draw(t, "spoil") == 0 {
		made.Keys = made.Keys[1:]
	}
	next, err := c.Apply(change, made, now)
	after, encodeErr := c.Encode()
	require.NoError(t, encodeErr)
	require.Equal(t, string(before), string(after), "Apply changed what it was given")
	if err != nil {
		return c
	}
	done[change.Act]++
	require.NoError(t, next.checkButRules())
	if change.Client != nil || change.Policy != nil {
		require.NoError(t, checkRules(next.Rules))
	} else {
		require.Equal(t, c.Rules, next.Rules)
	}
	require.Equal(t, c.Revision+1, next.Revision)
	require.Greater(t, next.decide(), next.Quorum.Most(), "officers who may act")
	if change.Act != policy.SuspendClient {
		require.Equal(t, RulesAfter(c.Rules, change), next.Rules)
	} else {
		require.True(t, next.Client(change.Client.Name).Suspended)
	}
	keptKeys(t, c, next, now)
	line, err = next.Encode()
	require.NoError(t, err)
	again, err := DecodeCatalogue(line)
	require.NoError(t, err)
	require.Equal(t, next, again)
	_, err = next.Apply(change, made, now)
	if change.Keys != nil && change.Act != policy.ExportKey {
		require.Error(t, err, "a change applied twice")
	}
	return next
}

// keptKeys: every key is still there, is the same key, and went at most one step.
func keptKeys(t *rapid.T, before, after Catalogue, now time.Time) {
	for _, set := range before.KeySets {
		kept := after.KeySet(set.Name)
		require.NotNil(t, kept)
		for _, k := range set.Keys {
			is := kept.Key(k.Name)
			require.NotNil(t, is, "%s", Label(set.Name, k.Name))
			require.Equal(t, []any{k.KCV, k.Label, k.ID, k.Boundary, k.Created}, []any{is.KCV, is.Label, is.ID, is.Boundary, is.Created})
			from, to := k.At(now), is.At(now)
			require.True(t, from == to || from.MayBecome(to), "from %v to %v", from, to)
		}
	}
}

// drawMember fills what the act takes, mostly with what is there, sometimes with what is not.
func drawMember(t *rapid.T, c Catalogue, change *Change, now time.Time) {
	name := rapid.SampledFrom([]string{"alice", "bob", "carol", "dave", "eve"})
	set := rapid.SampledFrom([]string{"demo", "demo", "demo", "other"})
	switch takes[change.Act] {
	case "officer":
		change.Officer = &OfficerChange{Name: name.Draw(t, "officer")}
		if change.Act != policy.RemoveOfficer {
			change.Officer.Key = testOnlyKeyText(fmt.Sprint(name.Draw(t, "key"), rapid.IntRange(0, 2).Draw(t, "n")))
		}
	case "quorum":
		change.Quorum = &policy.Quorum{Default: rapid.IntRange(0, 4).Draw(t, "quorum")}
	case "keySet":
		d := definition()
		d.Name, d.MAC1FailureLimit = set.Draw(t, "set"), rapid.IntRange(1, 20).Draw(t, "limit")
		change.KeySet = &d
	case "keys":
		change.Keys = &KeysChange{Set: set.Draw(t, "set")}
		drawKeys(t, c, change, now)
	case "transport":
		change.Transport = &TransportChange{Name: rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "transport"), KCV: "012345"}
		if change.Act == policy.ImportTransport {
			change.Transport.Bits, change.Transport.Components = rapid.SampledFrom([]int{112, 168, 128, 192, 256}).Draw(t, "bits"), 2
		}
	case "backup":
		holders := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(name, 2, 4).Draw(t, "holders"))))
		change.Backup = &BackupChange{Threshold: 2, Holders: holders}
	case "purse":
		change.Purse = &PurseChange{KeySet: set.Draw(t, "set"), Card: "3105228000001117", Purse: "EP"}
	case "client":
		drawClient(t, c, change)
	case "policy":
		drawPolicy(t, change)
	}
}

func drawClient(t *rapid.T, c Catalogue, change *Change) {
	name := rapid.SampledFrom([]string{"alice", "bob", "carol", "dave", "eve", "platform", "reader", "till"})
	change.Client = &ClientChange{Name: name.Draw(t, "client")}
	for _, one := range c.Rules.Clients {
		if one.Suspended && change.Act == policy.ResumeClient && rapid.Bool().Draw(t, "resumed") {
			change.Client.Name = one.Name
		}
	}
	if change.Act == policy.AddClient || change.Act == policy.ReplaceClient {
		change.Client.Identity = "spiffe://test/" + change.Client.Name
		if rapid.IntRange(0, 3).Draw(t, "moves") == 0 {
			change.Client.Identity = "spiffe://test/" + name.Draw(t, "identity")
		}
		change.Client.Role = rapid.SampledFrom([]policy.Role{policy.Officer, policy.Officer, policy.Platform}).Draw(t, "role")
		change.Client.KeySets = rapid.SampledFrom([][]string{nil, {"demo"}, {"demo"}, {"demo", "other"}, {"other", "demo"}}).Draw(t, "sets")
	}
}

func drawPolicy(t *rapid.T, change *Change) {
	change.Policy = &PolicyChange{}
	for _, name := range []string{"a", "b"} {
		switch rapid.IntRange(0, 2).Draw(t, name) {
		case 1:
			text := rapid.SampledFrom([]string{testPolicy(name, "GetTransaction"), testPolicy(name, "ListTransactions")}).Draw(t, "text")
			change.Policy.Put = append(change.Policy.Put, DocumentChange{Name: name, Text: text})
		case 2:
			change.Policy.Remove = append(change.Policy.Remove, DocumentRemoval{Name: name})
		}
	}
}

func drawKeys(t *rapid.T, c Catalogue, change *Change, now time.Time) {
	keys := change.Keys
	known := c.KeySet(keys.Set)
	if rapid.Bool().Draw(t, "later") && change.Act != policy.SuspendKey {
		keys.ActivateAt = now.Add(time.Hour)
		if !change.makesKeys() && change.Act != policy.ActivateKey {
			keys.ActivateAt = time.Time{}
		}
	}
	if change.Act == policy.ExportKey {
		keys.Transport = rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "transport")
	}
	keys.WithoutBackup = change.makesKeys() && rapid.Bool().Draw(t, "without backup")
	for range rapid.IntRange(1, 3).Draw(t, "keys") {
		k := KeyChange{Name: Name{
			rapid.SampledFrom([]keyderive.Kind{keyderive.KindLoad, keyderive.KindTAC}).Draw(t, "kind"), rapid.IntRange(1, 6).Draw(t, "version"),
		}}
		if known != nil && len(known.Keys) > 0 && !change.makesKeys() {
			k.Name = rapid.SampledFrom(known.Keys).Draw(t, "key").Name
		}
		if change.makesKeys() {
			k.Boundary = rapid.SampledFrom([]keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryToken, keyderive.BoundaryProcess}).Draw(t, "boundary")
		} else {
			k.KCV = "ABCDEF"
			if known != nil && known.Key(k.Name) != nil {
				k.KCV = known.Key(k.Name).KCV.Value
			}
		}
		if change.Act == policy.ImportKey {
			k.KCV, k.Components = rapid.StringMatching(`[0-9A-F]{6}`).Draw(t, "kcv"), 2
		}
		keys.Keys = append(keys.Keys, k)
	}
	slices.SortFunc(keys.Keys, func(a, b KeyChange) int { return a.Name.compare(b.Name) })
	keys.Keys = slices.CompactFunc(keys.Keys, func(a, b KeyChange) bool { return a.Name == b.Name })
}

// NIST SP 800-57's states as this project has them: the whole table, so that a change of it is one here too.
func TestWhereStatesGo(t *testing.T) {
	letters := map[KeyState]rune{PreActive: 'p', Active: 'a', Suspended: 's', Deactivated: 'd', Compromised: 'x', Destroyed: 'D'}
	table := map[KeyState]string{
		PreActive: "asxD", Active: "sdx", Suspended: "adxD", Deactivated: "xD", Compromised: "D", Destroyed: "",
	}
	for from, goes := range table {
		for _, to := range KeyStates() {
			require.Equal(t, slices.Contains([]rune(goes), letters[to]), from.MayBecome(to), "%v to %v", from, to)
		}
	}
}
