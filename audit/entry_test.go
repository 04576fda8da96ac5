package audit

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func whole() Entry {
	return Entry{
		Time: time.Date(2024, 1, 31, 23, 59, 59, 123456789, time.FixedZone("CST", 8*3600)), Event: "AuthorizeLoad",
		Client: "platform", Role: "platform", Policy: "ab12", KeySet: "demo", Card: "3105228000001117", Device: "5244000000000017", Purse: "EP",
		Transaction: "demo/3105228000001117/EP/LOAD/0007/A1B2C3D4", Settlement: "s", Session: "r",
		Key: &Key{Set: "demo", Kind: "load", Version: 1, KCV: "26C9F7"}, Boundary: "TOKEN", TACKey: &Key{Set: "demo", Kind: "tac", Version: 2, KCV: "112233"}, TACBoundary: "CARD",
		Inputs: Inputs{Initialize: "000003E8", AmountFen: 100, Terminal: "112233445566", Date: "20240131", Time: "235959", TAC: "5D5364F0", Type: "06", TerminalSerial: "00000001", MAC2: "11223344",
			Device: "0000202600000017", HostChallenge: "h", DeviceChallenge: "d", DeviceProof: "p", Sequence: 1, Length: 2, Last: true,
			FrameDigest: "f"},
		Outcome: "APPROVED", Detail: "<d>", MAC2: "60B7B5B7", MAC1: "7E1722D0",
		Settled: []Settled{{Transaction: "t", Outcome: "APPLIED", Evidence: "COUNTER"}},
		Command: "8416000004A1B2C3D4",
		Batch: &Batch{
			Items: 4, Verified: 1, Mismatched: 2, Failed: 1, Digest: "ef",
			Keys: []BatchKey{{Key: Key{Set: "demo", Kind: "tac", Version: 2, KCV: "0A0B0C"}, Boundary: "CARD", Items: 3}},
		},
		Writes: []KeyWrite{{Key: Key{Set: "demo", Kind: "tac", Version: 2, KCV: "8DD394"}, Boundary: "CARD", Challenge: "A1B2C3D4"}},
		Change: &Change{ID: "i", Act: "key.create", Bytes: `{"a":1}`, Officer: "bob", OfficerKey: "ssh-ed25519 AAAA", Signature: "s", Revision: 2, Catalogue: "c"},
	}
}

// The encoding is a contract with whoever reads the record later: these are its bytes.
func TestEncodingIsTheseBytes(t *testing.T) {
	const want = `{"v":1,"time":"2024-01-31T15:59:59.123456Z","event":"AuthorizeLoad","client":"platform","role":"platform","policy":"ab12",` +
		`"keySet":"demo","card":"3105228000001117","device":"5244000000000017","purse":"EP","transaction":"demo/3105228000001117/EP/LOAD/0007/A1B2C3D4","settlement":"s","session":"r",` +
		`"key":{"set":"demo","kind":"load","version":1,"kcv":"26C9F7"},"boundary":"TOKEN",` +
		`"tacKey":{"set":"demo","kind":"tac","version":2,"kcv":"112233"},"tacBoundary":"CARD",` +
		`"inputs":{"initialize":"000003E8","amountFen":100,"terminal":"112233445566","date":"20240131","time":"235959","tac":"5D5364F0",` +
		`"type":"06","terminalSerial":"00000001","mac2":"11223344",` +
		`"device":"0000202600000017","hostChallenge":"h","deviceChallenge":"d","deviceProof":"p","sequence":1,"length":2,"last":true,` +
		`"frameDigest":"f"},` +
		`"outcome":"APPROVED","detail":"\u003cd\u003e","mac2":"60B7B5B7","mac1":"7E1722D0","settled":[{"transaction":"t","outcome":"APPLIED","evidence":"COUNTER"}],` +
		`"command":"8416000004A1B2C3D4","batch":{"items":4,"verified":1,"mismatched":2,"failed":1,"digest":"ef",` +
		`"keys":[{"set":"demo","kind":"tac","version":2,"kcv":"0A0B0C","boundary":"CARD","items":3}]},` +
		`"writes":[{"key":{"set":"demo","kind":"tac","version":2,"kcv":"8DD394"},"boundary":"CARD","challenge":"A1B2C3D4"}],` +
		`"change":{"id":"i","act":"key.create","bytes":"{\"a\":1}","officer":"bob","officerKey":"ssh-ed25519 AAAA","signature":"s","revision":2,"catalogue":"c"}}`
	line, err := whole().Encode()
	require.NoError(t, err)
	assert.Equal(t, want, string(line))
	assert.NotContains(t, string(line), "\n")
	again, err := whole().Encode()
	require.NoError(t, err)
	assert.Equal(t, line, again)
}

func TestAnEntryComesBackAsItWas(t *testing.T) {
	line, err := whole().Encode()
	require.NoError(t, err)
	back, err := Decode(line)
	require.NoError(t, err)
	want := whole()
	want.Version = Version
	want.Time = time.Date(2024, 1, 31, 15, 59, 59, 123456000, time.UTC)
	assert.Equal(t, want, back)

	value := reflect.ValueOf(back)
	for i := range value.NumField() {
		assert.False(t, value.Field(i).IsZero(), "%s is in no test", value.Type().Field(i).Name)
	}
}

func TestWhatIsNotThereIsLeftOut(t *testing.T) {
	line, err := Entry{Time: time.Unix(0, 0), Event: Started, Outcome: "OK"}.Encode()
	require.NoError(t, err)
	assert.JSONEq(t, `{"v":1,"time":"1970-01-01T00:00:00Z","event":"Started","outcome":"OK"}`, string(line))
}

func TestAnEntryWithoutItsCoreIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Entry){
		"time": func(e *Entry) { e.Time = time.Time{} }, "event": func(e *Entry) { e.Event = "" }, "outcome": func(e *Entry) { e.Outcome = "" },
	} {
		e := whole()
		change(&e)
		_, err := e.Encode()
		require.ErrorContains(t, err, name)
	}
}

func TestAnotherVersionIsNotRead(t *testing.T) {
	line, err := whole().Encode()
	require.NoError(t, err)
	for _, other := range []string{`{"v":2`, `{"v":0`, `{"v":-1`} {
		_, err := Decode([]byte(strings.Replace(string(line), `{"v":1`, other, 1)))
		require.ErrorContains(t, err, "version")
	}
	_, err = Decode([]byte(`{"v":1`))
	require.Error(t, err)
	var raw map[string]any
	require.NoError(t, json.Unmarshal(line, &raw))
}

// Whatever means the same entry and is written otherwise is not read: a record has one form.
func TestOnlyTheCanonicalFormIsRead(t *testing.T) {
	encoded, err := whole().Encode()
	require.NoError(t, err)
	line := string(encoded)
	for name, change := range map[string]func(string) string{
		"space":           func(s string) string { return strings.Replace(s, `"v":1`, `"v": 1`, 1) },
		"trailing space":  func(s string) string { return s + " " },
		"line end":        func(s string) string { return s + "\n" },
		"trailing object": func(s string) string { return s + `{"v":1}` },
		"unknown field":   func(s string) string { return strings.Replace(s, `"v":1`, `"v":1,"x":2`, 1) },
		"unknown input":   func(s string) string { return strings.Replace(s, `"inputs":{`, `"inputs":{"pin":"1",`, 1) },
		"field twice":     func(s string) string { return strings.Replace(s, `"v":1`, `"v":1,"v":1`, 1) },
		"other case":      func(s string) string { return strings.Replace(s, `"event"`, `"Event"`, 1) },
		"other order":     func(s string) string { return strings.Replace(s, `"v":1,"time"`, `"outcome":"","v":1,"time"`, 1) },
		"other escape":    func(s string) string { return strings.Replace(s, `\u003c`, `\u003C`, 1) },
		"no escape":       func(s string) string { return strings.Replace(s, `\u003c`, `<`, 1) },
		"empty field":     func(s string) string { return strings.Replace(s, `"detail":"\u003cd\u003e"`, `"detail":""`, 1) },
		"null":            func(s string) string { return strings.Replace(s, `"detail":"\u003cd\u003e"`, `"detail":null`, 1) },
		"another zone":    func(s string) string { return strings.Replace(s, `15:59:59.123456Z`, `23:59:59.123456+08:00`, 1) },
		"nanoseconds":     func(s string) string { return strings.Replace(s, `59.123456Z`, `59.123456789Z`, 1) },
		"zeros":           func(s string) string { return strings.Replace(s, `59.123456Z`, `59.120Z`, 1) },
		"exponent":        func(s string) string { return strings.Replace(s, `"amountFen":100`, `"amountFen":1e2`, 1) },
		"not UTF-8":       func(s string) string { return strings.Replace(s, `"t"`, "\"\xff\"", 1) },
		"cut":             func(s string) string { return s[:len(s)-1] },
		"nothing":         func(string) string { return "" },
		"core missing":    func(s string) string { return strings.Replace(s, `"outcome":"APPROVED",`, ``, 1) },
	} {
		changed := change(line)
		require.NotEqual(t, line, changed, name)
		_, err := Decode([]byte(changed))
		assert.Error(t, err, name)
	}
}

// A text that a client sent may hold anything: what Encode makes of it is what Decode takes.
func TestEveryEncodingIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(label string) string {
			if rapid.Bool().Draw(t, label+" of bytes") {
				return string(rapid.SliceOf(rapid.Byte()).Draw(t, label))
			}
			return rapid.String().Draw(t, label)
		}
		e := Entry{
			Time:  time.UnixMicro(rapid.Int64Range(-1<<55, 1<<57).Draw(t, "time")).Add(time.Duration(rapid.IntRange(0, 999).Draw(t, "ns"))),
			Event: Event("e" + text("event")), Client: text("client"), Card: text("card"), Outcome: "o" + text("outcome"), Detail: text("detail"),
			Inputs:  Inputs{Initialize: text("initialize"), AmountFen: rapid.Uint64().Draw(t, "amount")},
			Settled: []Settled{{Transaction: text("transaction")}},
		}
		line, err := e.Encode()
		require.NoError(t, err)
		assert.NotContains(t, string(line), "\n")
		back, err := Decode(line)
		require.NoError(t, err)
		again, err := back.Encode()
		require.NoError(t, err)
		assert.Equal(t, line, again)
	})
}

func TestAnEntryFitsItsBundle(t *testing.T) {
	e := whole()
	e.Detail = ""
	line, err := e.Encode()
	require.NoError(t, err)
	e.Detail = strings.Repeat("x", MaxSize-len(line)-len(`"detail":"",`))
	line, err = e.Encode()
	require.NoError(t, err)
	assert.Len(t, line, MaxSize)
	e.Detail += "x"
	_, err = e.Encode()
	require.ErrorContains(t, err, "65536 bytes")
}

func FuzzDecode(f *testing.F) {
	line, err := whole().Encode()
	require.NoError(f, err)
	f.Add(line)
	f.Add([]byte(`{"v":1,"time":"1970-01-01T00:00:00Z","event":"Started","outcome":"OK"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Decode(line)
		if err != nil {
			return
		}
		again, err := e.Encode()
		require.NoError(t, err)
		assert.Equal(t, string(line), string(again))
	})
}

// Alarms are the events whose comment says so.
func TestAlarmsAreAllOfThem(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "entry.go", nil, parser.ParseComments)
	require.NoError(t, err)
	var said []Event
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			value := spec.(*ast.ValueSpec)
			if strings.HasPrefix(strings.TrimSpace(value.Comment.Text()), "alarm") {
				said = append(said, Event(strings.Trim(value.Values[0].(*ast.BasicLit).Value, `"`)))
			}
		}
	}
	assert.ElementsMatch(t, said, Alarms())
}
