package audit

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestEncodingIsThatOfTheTags: every entry is written as encoding/json writes it by the structs' tags, with U+FFFD for what is no UTF-8. So no
// member can be forgotten, and none be out of its order.
func TestEncodingIsThatOfTheTags(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e Entry
		fill(t, reflect.ValueOf(&e).Elem())
		e.Time = time.UnixMicro(rapid.Int64Range(-62167219200_000000, 253402300799_999999).Draw(t, "time")).UTC()
		e.Event, e.Outcome = "E"+e.Event, "O"+e.Outcome
		got, err := e.Encode()
		if e.Time.IsZero() {
			return
		}
		e.Version = Version
		want, wrong := json.Marshal(e)
		require.NoError(t, wrong)
		if len(got) == 0 {
			require.ErrorContains(t, err, "bytes, expected at most")
			return
		}
		require.NoError(t, err)
		var read Entry
		require.NoError(t, json.Unmarshal(want, &read)) // U+FFFD for \ufffd
		want, wrong = json.Marshal(read)
		require.NoError(t, wrong)
		require.Equal(t, string(want), string(got))
	})
}

// fill draws a value for each field, empty ones often.
func fill(t *rapid.T, v reflect.Value) {
	full := rapid.Bool().Draw(t, "full")
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Kind() == reflect.Struct:
		if full {
			for i := range v.NumField() {
				fill(t, v.Field(i))
			}
		}
	case !full:
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, "length"), 3))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case v.Kind() == reflect.String:
		v.SetString(anyText(t))
	case v.CanInt():
		v.SetInt(rapid.Int64().Draw(t, "number"))
	case v.CanUint():
		v.SetUint(rapid.Uint64().Draw(t, "number") >> (64 - v.Type().Bits()))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	default:
		t.Fatalf("a %v is drawn by nobody", v.Type())
	}
}

func anyText(t *rapid.T) string {
	return strings.Join(rapid.SliceOfN(rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{`"`, `\`, "<", ">", "&", "\u2028", "\u2029", "\ufffd", `\ufffd`, "\x7f", "钱包", "\xff", "\xe9\x92", "\xed\xa0\x80"}),
		rapid.Map(rapid.ByteRange(0, ' '), func(b byte) string { return string([]byte{b}) }),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 4), func(b []byte) string { return string(b) }),
	), 0, 4).Draw(t, "text"), "")
}

// Every byte alone and every byte in a text, beside the texts that are drawn.
func TestEveryByteIsEncodedAsJSON(t *testing.T) {
	for b := range 256 {
		for _, text := range []string{string([]byte{byte(b)}), "a" + string([]byte{byte(b)}) + "z"} {
			marshalled, err := json.Marshal(text)
			require.NoError(t, err)
			want := strings.ReplaceAll(string(marshalled), `\ufffd`, "\ufffd")
			assert.Equal(t, want, string(line(nil).quoted(text)), "%q", text)
		}
	}
}

func TestATimeOutsideTheCalendarIsRefused(t *testing.T) {
	for _, year := range []int{-1, 10_000} {
		e := whole()
		e.Time = time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC)
		_, err := e.Encode()
		require.ErrorContains(t, err, "expected 0 to 9999")
	}
}

func BenchmarkEncode(b *testing.B) {
	e := whole()
	e.Batch, e.Change, e.Writes, e.Settled = nil, nil, nil, nil // as of a load
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}
