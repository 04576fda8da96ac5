package custody

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
)

// full is one change for each member, with every field of it set.
func full() []Change {
	at := func(act policy.Act, with Change) Change {
		with.Format, with.ID, with.Act, with.Author, with.Reason = changeFormat, strings.Repeat("a1", 16), act, "alice", "a reason"
		with.Proposed, with.Expires, with.Base = noon, noon.Add(time.Hour), strings.Repeat("b2", 32)
		return with
	}
	return []Change{
		at(policy.AddOfficer, Change{Officer: &OfficerChange{Name: "dave", Key: testOnlyKeyText("dave"), Recipient: "age1" + strings.Repeat("q", 58)}}),
		at(policy.SetQuorum, Change{Quorum: &policy.Quorum{Default: 1, Acts: map[policy.Act]int{policy.DestroyKey: 2, policy.AtProcess: 3}}}),
		at(policy.UpdateKeySet, Change{KeySet: &Definition{
			Name: "demo", Algorithm: suite.TDES, Profile: "pboc", Issuer: "fixed", Factors: []string{"0000000000000001", "0000000000000002"},
			TimeZone: "Asia/Shanghai", MAC1FailureLimit: 10, TACVersion: map[int]int{1: 2, 3: 4},
		}}),
		at(policy.ImportKey, Change{Keys: &KeysChange{
			Set: "demo", ActivateAt: noon.Add(2 * time.Hour), Due: noon.Add(3 * time.Hour), Transport: "bureau", WithoutBackup: true,
			Keys: []KeyChange{
				{Name: load(2), Boundary: keyderive.BoundaryToken, KCV: "ABCDEF", Components: 2},
				{Name: tac(2), Boundary: keyderive.BoundaryCard, KCV: "ABCDE0", Components: 3},
			},
		}}),
		at(policy.ImportTransport, Change{Transport: &TransportChange{Name: "bureau", Bits: 256, KCV: "0123456789", Components: 3}}),
		at(policy.CreateBackup, Change{Backup: &BackupChange{Threshold: 2, Holders: []string{"alice", "bob", "carol"}}}),
		at(policy.CreateBackup, Change{Backup: &BackupChange{Vault: "escrow"}}),
		at(policy.ReplaceClient, Change{Client: &ClientChange{
			Name: "platform", Identity: "spiffe://test/platform", Role: policy.Platform, KeySets: []string{"demo", "other"},
			Was: &policy.Client{Name: "platform", Identity: "platform.test", Role: policy.Reader, KeySets: []string{"demo"}, MaxAmountFen: 1, Suspended: true},
		}}),
		at(policy.SetPolicy, Change{Policy: &PolicyChange{
			Put:    []DocumentChange{{Name: "new", Text: testPolicy("a", "GetTransaction")}, {Name: "old", Text: testPolicy("b", "GetTransaction"), Was: strings.Repeat("c3", 32)}},
			Remove: []DocumentRemoval{{Name: "gone", Was: strings.Repeat("d4", 32)}},
			Limits: &LimitsChange{Text: "limits: []\n", Was: strings.Repeat("e5", 32)},
		}}),
		at(policy.SetPolicy, Change{Policy: &PolicyChange{Limits: &LimitsChange{Remove: true, Was: strings.Repeat("e5", 32)}}}),
		at(policy.ResetPurse, Change{Purse: &PurseChange{KeySet: "demo", Card: "3105228000001117", IssuerID: "31052280", Purse: "EP"}}),
	}
}

// Nothing that is signed is hidden: any other value of any member makes other words.
func TestWordsTellEveryMember(t *testing.T) {
	changed := 0
	for _, change := range full() {
		words := change.Words()
		each(reflect.ValueOf(&change).Elem(), string(change.Act), func(path string, v reflect.Value) {
			was := reflect.New(v.Type()).Elem()
			was.Set(v)
			another(v)
			assert.NotEqual(t, words, change.Words(), "%s may be anything", path)
			v.Set(was)
			changed++
		})
		require.Equal(t, words, change.Words())
	}
	assert.Greater(t, changed, 130, "values")
}

// each calls do with every value that has no parts.
func each(v reflect.Value, path string, do func(string, reflect.Value)) {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		each(v.Elem(), path, do)
	case v.Kind() == reflect.Pointer:
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			each(v.Index(i), fmt.Sprintf("%s[%d]", path, i), do)
		}
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
		for i := range v.NumField() {
			each(v.Field(i), path+"."+v.Type().Field(i).Name, do)
		}
	default:
		do(path, v)
	}
}

func another(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int:
		v.SetInt(v.Int() + 1)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Struct:
		v.Set(reflect.ValueOf(v.Interface().(time.Time).Add(time.Second)))
	case reflect.Map:
		copied := reflect.MakeMap(v.Type())
		for n, key := range v.MapKeys() {
			value := v.MapIndex(key)
			if n == 0 {
				value = reflect.ValueOf(int(value.Int()) + 1)
			}
			copied.SetMapIndex(key, value)
		}
		v.Set(copied)
	default:
		panic(v.Kind())
	}
}

// What a person writes cannot make a line of its own, move the cursor, turn the direction, or close its quotes.
func TestWordsEscapeWhatIsHostile(t *testing.T) {
	for _, hostile := range []string{
		"fine\n  key          load version 9", "\x1b[2Jgone", "\u202Etxet", "\u2028", "\u200B", "\r  backup", "\x00", "\u0085", "\xff", `" injected`, "\u2066", "\ufeff",
	} {
		change := full()[3]
		lines := strings.Count(change.Words(), "\n")
		change.Reason, change.Author, change.Keys.Set = hostile, hostile, hostile
		words := change.Words()
		assert.Equal(t, lines, strings.Count(words, "\n"), "%q", hostile)
		for _, r := range words {
			assert.True(t, r == '\n' || r >= ' ' && r != 0x7f && strings.ContainsRune(words, r) && quotedPrintable(r), "%q has %U", hostile, r)
		}
	}
	change := full()[3]
	change.Reason = "主密钥轮换"
	assert.Contains(t, change.Words(), `"主密钥轮换"`, "who writes Chinese reads Chinese")
}

// A long reason that pretends to be more lines of the words, on a terminal of 80 columns, begins each of its lines with a quote.
func TestWordsOfLongReasons(t *testing.T) {
	for _, reason := range []string{
		"yearly rotation" + strings.Repeat(" ", 47) + "author       bob" + strings.Repeat(" ", 64) + "key          tac version 9",
		strings.Repeat("\u0000", 100), strings.Repeat("主", 166), strings.Repeat("x", 500), strings.Repeat("\\", 500), strings.Repeat("🔑", 125),
	} {
		change := full()[3]
		change.Reason = reason
		_, prose, found := strings.Cut(change.Words(), "\n  reason ")
		require.True(t, found)
		prose, _, found = strings.Cut(prose, "\n  author ")
		require.True(t, found)
		var whole string
		for n, line := range strings.Split(prose, "\n") {
			line = strings.TrimSpace(line)
			text, err := strconv.Unquote(line)
			require.NoError(t, err, line)
			whole += text
			columns := len("  123456789012 ")
			for _, r := range line {
				columns++
				if r >= 0x1100 {
					columns++
				}
			}
			assert.LessOrEqual(t, columns, 80, "line %d: %s", n, line)
		}
		assert.Equal(t, reason, whole)
	}
}

func quotedPrintable(r rune) bool {
	return fmt.Sprintf("%+q", r) != "" && !strings.Contains(fmt.Sprintf("%q", r), `\u`)
}

func TestWordsSayWhatMatters(t *testing.T) {
	c := stocked(t)
	at := func(b keyderive.Boundary) string {
		return proposed(t, c, policy.CreateKey, func(c *Change) { creating(load(2))(c); c.Keys.Keys[0].Boundary = b }).Words()
	}
	assert.Contains(t, at(keyderive.BoundaryProcess), "outside of the token")
	assert.NotContains(t, at(keyderive.BoundaryToken), "WARNING")
	assert.Contains(t, at(keyderive.BoundaryToken), "NONE: when the token is lost")
	for _, act := range policy.Acts() {
		assert.NotEmpty(t, sentences[act], act)
		assert.NotEmpty(t, takes[act], act)
	}
}
