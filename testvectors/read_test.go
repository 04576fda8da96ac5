package testvectors

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// one is a file with one vector: a load that holds, which the cases below spoil.
const one = `{"source":"a test","vectors":[{"id":"a","operation":"load","algorithm":"3DES",
 "cardKey":"11223344556677888877665544332211",
 "in":{"random":"11223344","counter":"0000","balance":"00000000","amount":"00001000","type":"01","terminal":"001122334455","date":"20111221","time":"214822"},
 "out":{"sessionKey":"9B1D924E05595603","mac1":"2988AE5A","mac2":"3A845BF0"}}]}`

func TestLoadReadsWhatTheFormatAllows(t *testing.T) {
	for _, c := range []struct{ name, old, new string }{
		{"as it is", "", ""},
		{"spaces in hex", `"11223344556677888877665544332211"`, `" 11223344 55667788 88776655 44332211 "`},
		{"lower case", `"2988AE5A"`, `"2988ae5a"`},
		{"a source of its own", `"id":"a"`, `"id":"a","source":"another test"`},
		{"a source that is an object", `"a test"`, `{"document":"x","independent":true,"pages":[1,2]}`},
		{"the vector's source alone", `"source":"a test","vectors":[{"id":"a"`, `"vectors":[{"id":"a","source":{"document":"x"}`},
		{"expect ok", `"id":"a"`, `"id":"a","expect":"ok"`},
		{"inputs without a use", `"in":{`, `"in":{"terminalSerial":"00000001","oldLimit":"000000","newLimit":"0001F4","challenge":"A1B2C3D4",`},
		{"a profile without a use", `"in":{`, `"in":{"profile":{"updateData":"encrypted","keyIndex":2},`},
		{"parity bits", `"9B1D924E05595603"`, `"9A1C934F04585702"`},
		{"factors beside a card key", `"cardKey"`, `"factors":["1000100010001000"],"cardKey"`},
		{"escapes", `"id":"a"`, `"\u0069d":"a"`},
		{"a part of the values", `"mac1":"2988AE5A",`, ""},
		{"no date for MAC1", `,"date":"20111221","time":"214822"},
 "out":{"sessionKey":"9B1D924E05595603","mac1":"2988AE5A","mac2":"3A845BF0"}`, `},"out":{"mac1":"2988AE5A"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(one, c.old, c.new, 1)
			file, err := Load(strings.NewReader(text))
			require.NoError(t, err)
			report := replay(t, Memory(), file)
			assert.Empty(t, report.Failures)
			assert.True(t, report.Holds())
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct{ name, old, new, message string }{
		{"unknown field of the file", `{"source"`, `{"note":1,"source"`, "vector file: note: unknown field"},
		{"unknown field of a vector", `"id":"a"`, `"id":"a","note":""`, `vector "a": note: unknown field`},
		{"unknown input", `"in":{`, `"in":{"note":"",`, `vector "a": in.note: unknown field`},
		{"unknown output", `"out":{`, `"out":{"note":"",`, `vector "a": out.note: unknown field`},
		{"unknown parameter", `"in":{`, `"in":{"profile":{"note":1},`, `vector "a": in.profile: note: unknown field`},
		{"unknown value of a parameter", `"in":{`, `"in":{"profile":{"updateData":"both"},`, `updateData`},
		{"one parameter under two names", `"in":{`, `"in":{"profile":{"smChallenge":8,"secureMessagingChallenge":8},`, "given twice"},
		{"name of another case", `"id":"a"`, `"ID":"a"`, "id: missing"},
		{"input of another case", `"counter"`, `"Counter"`, "in.Counter: unknown field"},
		{"repeated field", `"id":"a"`, `"id":"a","id":"a"`, `field "id": repeated`},
		{"repeated input", `"in":{`, `"in":{"amount":"00001000",`, `field "amount": repeated`},
		{"repeated output", `"out":{`, `"out":{"mac1":"2988AE5A",`, `field "mac1": repeated`},
		{"no id", `"id":"a",`, "", "vector 1: id: missing"},
		{"empty id", `"id":"a"`, `"id":""`, "vector 1: id: missing"},
		{"id that is a number", `"id":"a"`, `"id":1`, "id: a number, expected a string"},
		{"null", `"11223344556677888877665544332211"`, `null`, "cardKey: null, expected a string"},
		{"no source at all", `"source":"a test",`, "", "source: missing"},
		{"empty source", `"a test"`, `" "`, "source: empty"},
		{"source that is a number", `"a test"`, `7`, "source: a number"},
		{"unknown operation", `"load"`, `"Load"`, `operation: "Load"`},
		{"unknown algorithm", `"3DES"`, `"DES"`, `algorithm "DES"`},
		{"no key", `"cardKey":"11223344556677888877665544332211",`, "", "out.sessionKey: masterKey or cardKey: missing"},
		{"no key for the TAC", `"out":{`, `"out":{"tac":"00000000",`, "out.tac: tacMasterKey or tacCardKey: missing"},
		{"master without factors", `"cardKey"`, `"masterKey"`, "factors: missing beside masterKey"},
		{"two keys", `"cardKey"`, `"factors":[],"masterKey":"11223344556677888877665544332211","cardKey"`, "masterKey and cardKey: one or the other"},
		{"short key", `"11223344556677888877665544332211"`, `"1122334455667788"`, "cardKey: 8 bytes, expected 16"},
		{"short factor", `"cardKey"`, `"factors":["10001000"],"cardKey"`, "factors[0]: 4 bytes, expected 8"},
		{"factor that is a number", `"cardKey"`, `"factors":[1],"cardKey"`, "factors[0]: a number"},
		{"not hex", `"11223344","counter"`, `"1122334G","counter"`, "in.random: character 8"},
		{"odd number of digits", `"001122334455"`, `"00112233445"`, "in.terminal: 11 hex digits"},
		{"short input", `"00001000"`, `"1000"`, "in.amount: 2 bytes, expected 4"},
		{"no day of the calendar", `"20111221"`, `"20110229"`, "in.date"},
		{"type of another operation", `"type":"01"`, `"type":"06"`, "in.type: 06 EP purchase, expected one of"},
		{"missing input", `"balance":"00000000",`, "", `vector "a": out.mac1: in.balance: missing`},
		{"missing input of another value", `,"time":"214822"`, "", `vector "a": out.mac2: in.time: missing`},
		{"balance over four bytes", `"00000000"`, `"FFFFFFFF"`, "in.amount: amount"},
		{"value that a load does not make", `"mac1"`, `"mac3"`, "out.mac3: the operation does not make this value"},
		{"no value", `"out":{"sessionKey":"9B1D924E05595603","mac1":"2988AE5A","mac2":"3A845BF0"}`, `"out":{}`, "out: no value"},
		{"long MAC", `"2988AE5A"`, `"2988AE5A00"`, "out.mac1: 5 bytes"},
		{"empty value", `"2988AE5A"`, `""`, "out.mac1: 0 bytes"},
		{"16-byte DES session key", `"9B1D924E05595603"`, `"9B1D924E055956039B1D924E05595603"`, "out.sessionKey: 16 bytes"},
		{"unknown expectation", `"id":"a"`, `"id":"a","expect":"fail"`, `expect: "fail"`},
		{"empty expectation", `"id":"a"`, `"id":"a","expect":""`, `expect: ""`},
		{"expectation for a key", `"id":"a"`, `"id":"a","expect":"sessionKey-mismatch"`, `expect: "sessionKey-mismatch"`},
		{"expectation without its value", `"id":"a"`, `"id":"a","expect":"tac-mismatch"`, "expect: tac-mismatch, but out.tac is missing"},
		{"two vectors of one id", `}}]}`, `}},{"id":"a"}]}`, `vector "a": id: repeated`},
		{"vector that is a string", `}}]}`, `}},"b"]}`, "vector 2: a string, expected an object"},
		{"something after the document", `}}]}`, `}}]} {}`, "byte"},
		{"comma at the end", `}}]}`, `}},]}`, "byte"},
		{"cut short", `}}]}`, `}}]`, "byte"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Contains(t, one, c.old)
			_, err := Load(strings.NewReader(strings.Replace(one, c.old, c.new, 1)))
			require.ErrorContains(t, err, c.message)
		})
	}
}

func TestLoadRefusesWholeFiles(t *testing.T) {
	for _, c := range []struct{ name, text, message string }{
		{"empty", "", "empty"},
		{"white", " \n", "empty"},
		{"no vectors", `{"source":"x"}`, "vectors: missing"},
		{"no vector", `{"source":"x","vectors":[]}`, "no vector"},
		{"null for vectors", `{"source":"x","vectors":null}`, "vectors: null, expected an array"},
		{"array", `[]`, "an array, expected an object"},
		{"not UTF-8", "{\"source\":\"\xff\"}", "not UTF-8"},
		{"deep", `{"source":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "nested over"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(strings.NewReader(c.text))
			require.ErrorContains(t, err, c.message)
		})
	}
}

// vector is one of the given body around a card key, for the cases of the other operations.
func vector(body string) string {
	return `{"source":"a test","vectors":[{"id":"a","algorithm":"SM4","cardKey":"00112233445566778899AABBCCDDEEFF",
 "tacCardKey":"00112233445566778899AABBCCDDEEFF",` + body + `}]}`
}

func TestLoadRefusesByOperation(t *testing.T) {
	const moment = `"terminal":"001122334455","date":"20111221","time":"214822"`
	for _, c := range []struct{ name, body, message string }{
		{"diversify a card key", `"operation":"diversify","out":{"cardKey":"00112233445566778899AABBCCDDEEFF"}`, "out.cardKey: masterKey: missing"},
		{"a MAC of diversify", `"operation":"diversify","out":{"mac1":"00000000"}`, "does not make"},
		{"TAC of an unload", `"operation":"tac","in":{"type":"03",` + moment + `},"out":{"tac":"00000000"}`, "in.type: 03 unload has no TAC"},
		{"TAC of no type", `"operation":"tac","in":{` + moment + `},"out":{"tac":"00000000"}`, "in.type: missing"},
		{"TAC of an unknown type", `"operation":"tac","in":{"type":"08",` + moment + `},"out":{"tac":"00000000"}`, "in.type"},
		{"TAC without its terminal serial", `"operation":"tac","in":{"type":"06","amount":"00000001",` + moment + `},"out":{"tac":"00000000"}`, "in.terminalSerial: missing"},
		{"TAC without its balance", `"operation":"tac","in":{"type":"02","counter":"0001","amount":"00000001",` + moment + `},"out":{"tac":"00000000"}`, "in.balance: missing"},
		{"session key of a TAC", `"operation":"tac","in":{"type":"06"},"out":{"sessionKey":"00112233445566778899AABBCCDDEEFF"}`, "does not make"},
		{"TAC of an unload as such", `"operation":"unload","in":{},"out":{"tac":"00000000"}`, "does not make"},
		{"unload over the balance", `"operation":"unload","in":{"balance":"00000001","amount":"00000002"},"out":{"mac1":"00000000"}`, "amount"},
		{"overdraft below nothing", `"operation":"overdraft","in":{"balance":"00000001","oldLimit":"000005","newLimit":"000000"},"out":{"mac1":"00000000"}`, "newLimit"},
		{"purchase without its serial", `"operation":"purchase","in":{"random":"00000000","counter":"0000"},"out":{"sessionKey":"00112233445566778899AABBCCDDEEFF"}`, "in.terminalSerial: missing"},
		{"no command", `"operation":"command","in":{},"out":{"apdu":"00"}`, "in.command: missing"},
		{"unknown command", `"operation":"command","in":{"command":"card block"},"out":{"apdu":"00"}`, `in.command: "card block" is no command`},
		{"command without a challenge", `"operation":"command","in":{"command":"CARD BLOCK"},"out":{"apdu":"00"}`, "in.challenge: missing"},
		{"PIN UNBLOCK without a PIN", `"operation":"command","in":{"command":"PIN UNBLOCK","challenge":"00000000"},"out":{"apdu":"00"}`, "in.pin: missing"},
		{"RELOAD PIN without a PIN", `"operation":"command","in":{"command":"RELOAD PIN"},"out":{"apdu":"00"}`, "in.pin: missing"},
		{"a PIN that is none", `"operation":"command","in":{"command":"RELOAD PIN","pin":"12AB"},"out":{"apdu":"00"}`, "in.pin"},
		{"UPDATE RECORD without P2", `"operation":"command","in":{"command":"UPDATE RECORD","challenge":"00000000","p1":"00","data":"00"},"out":{"apdu":"00"}`, "in.p2: missing"},
		{"WRITE KEY without a key", `"operation":"command","in":{"command":"WRITE KEY","challenge":"00000000","p1":"00","p2":"00"},"out":{"apdu":"00"}`, "in.key: missing"},
		{"permanent that is a string", `"operation":"command","in":{"command":"APPLICATION BLOCK","challenge":"00000000","permanent":"true"},"out":{"apdu":"00"}`, "in.permanent: a string, expected true or false"},
		{"MAC of a command", `"operation":"command","in":{"command":"CARD BLOCK","challenge":"00000000"},"out":{"mac1":"00000000"}`, "does not make"},
		{"no direction", `"operation":"authenticate","in":{"challenge":"00000000"},"out":{"cryptogram":"0000000000000000"}`, "in.direction: missing"},
		{"unknown direction", `"operation":"authenticate","in":{"challenge":"00000000","direction":"both"},"out":{"cryptogram":"0000000000000000"}`, "in.direction"},
		{"APDU without a key number", `"operation":"authenticate","in":{"challenge":"00000000","direction":"external"},"out":{"apdu":"00"}`, "in.p2: missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(strings.NewReader(vector(c.body)))
			require.ErrorContains(t, err, c.message)
			require.ErrorContains(t, err, `vector "a"`)
		})
	}
}

// Spaces and case in hex digits make no difference, in any field.
func TestHexIsReadWithSpacesAndInLowerCase(t *testing.T) {
	for _, name := range []string{"data/published.json", "data/computed.json", "testdata/forms.json"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		var document map[string]any
		require.NoError(t, json.Unmarshal(text, &document))
		for _, v := range document["vectors"].([]any) {
			spread(v.(map[string]any))
		}
		text, err = json.Marshal(document)
		require.NoError(t, err)
		file, err := Load(bytes.NewReader(text))
		require.NoError(t, err)
		report := replay(t, Memory(), file)
		assert.Empty(t, report.Failures)
		assert.Positive(t, report.Total().Compared)
	}
}

// spread puts spaces between the digits of every string that is hex, and writes them small.
func spread(fields map[string]any) {
	for name, value := range fields {
		switch value := value.(type) {
		case string:
			switch name {
			case "id", "source", "operation", "algorithm", "expect", "command", "direction":
			default:
				fields[name] = " " + strings.ToLower(strings.Join(strings.Split(value, ""), " "))
			}
		case map[string]any:
			if name != "profile" {
				spread(value)
			}
		}
	}
}

// Every name and value of EPURSE.md §9 in its own words means what the profile file's word means.
func TestProfileParametersBySectionNine(t *testing.T) {
	for _, c := range []struct{ words, file string }{
		{`{"secureMessagingChallenge":"8 bytes"}`, `{"smChallenge":8}`},
		{`{"smChallenge":"4 bytes and zeros"}`, `{}`},
		{`{"encryptionPaddingOfAWholeBlock":"always"}`, `{"encryptionPadding":"always"}`},
		{`{"updateData":"encrypted and MAC"}`, `{"updateData":"encrypted"}`},
		{`{"reloadPinMacOver":"header and PIN"}`, `{"reloadPinMac":"headerAndPin"}`},
		{`{"pinUnblock":"MAC only"}`, `{"pinUnblock":"macOnly"}`},
		{`{"debitForPurchaseP1":"02 plain and 01 compound"}`, `{"debitForPurchaseP1":"byType"}`},
		{`{"creditForLoadP1P2":"00 02"}`, `{"creditForLoadP1P2":"0002"}`},
		{`{"applicationBlockP1":"00 for DES and 01 for SM4"}`, `{"applicationBlockP1":"byAlgorithm"}`},
		{`{"unloadPurse":"ep"}`, `{"unloadPurse":"EP"}`},
		{`{"ki":"02"}`, `{"keyIndex":2}`},
		{`{"sm4ExternalAuthentication":"whole 16"}`, `{"externalAuthentication":"whole"}`},
		{`{"algByte":["01"]}`, `{"algByte":["01"]}`},
		{`{"issuerFactors":{"from":"issuerId"}}`, `{"issuerFactors":{"from":"issuerId"}}`},
	} {
		t.Run(c.words, func(t *testing.T) {
			words, err := readDocument(strings.NewReader(c.words))
			require.NoError(t, err)
			got, err := readProfile(words.(object))
			require.NoError(t, err)
			base, err := readProfile(nil)
			require.NoError(t, err)
			want, err := base.With([]byte(c.file))
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

// The seeds are the whole files, every vector of them by itself, and the spoiled ones of testdata/fuzz.
func FuzzLoad(f *testing.F) {
	seeds := 0
	for _, name := range []string{"data/published.json", "data/computed.json", "testdata/forms.json"} {
		text, err := os.ReadFile(name)
		require.NoError(f, err)
		var file struct{ Vectors []json.RawMessage }
		require.NoError(f, json.Unmarshal(text, &file))
		for _, v := range file.Vectors {
			f.Add([]byte(`{"source":"a seed","vectors":[` + string(v) + `]}`))
			seeds++
		}
	}
	corpus, err := filepath.Glob("testdata/fuzz/FuzzLoad/*")
	require.NoError(f, err)
	require.NotEmpty(f, corpus)
	require.Greater(f, seeds, 250)
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Load(bytes.NewReader(text))
		if err != nil {
			require.Empty(t, file.Vectors)
			return
		}
		require.NotEmpty(t, file.Vectors)
		report, err := Replay(context.Background(), Memory(), file)
		require.NoError(t, err)
		total := report.Total()
		require.Equal(t, len(file.Vectors), total.Vectors)
		require.Equal(t, outs(file.Vectors), total.Compared+total.ByEffect+total.Refused+total.Failed)
	})
}
