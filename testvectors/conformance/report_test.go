package conformance

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
)

const hostile = `<script>document.title="owned"</script></pre><img src=x onerror="document.title='owned'">'"&` + "\u2028"

// sample has a failure, and a hostile text in every place that a file of vectors or a token fills.
func sample() Report {
	return Report{
		Time:    time.Date(2026, 1, 31, 23, 59, 59, 0, time.FixedZone("CST", 8*3600)),
		Program: Program{Version: "v1.2.3", Revision: "abc", Go: "go1.26"},
		Token: &Token{Label: hostile, Manufacturer: hostile, Model: hostile, Serial: hostile, Hardware: "1.0", Firmware: "2.0", Slot: hostile,
			Library: hostile, LibraryMaker: hostile, LibraryVersion: "2.6", Cryptoki: "2.40", Profile: hostile, ThrowAway: true},
		Mechanisms: []Mechanism{{"3DES ecb", "PASSED", ""}, {"SM4 ecb", "UNSUPPORTED", ""}, {"3DES cbc", "FAILED", hostile}},
		Boundaries: []Boundary{{"3DES", "load", "TOKEN"}, {"SM4", "load", "PROCESS"}, {"3DES", "tac", "CARD"}, {"SM4", "tac", "PROCESS"}},
		Files:      []File{{hostile, strings.Repeat("ab", 32), 2}},
		Operations: []Operation{{"load", "3DES", "token", 2, Counts{3, 1, 1, 1}}},
		Failures:   []Failure{{hostile, "token", "mac2", "differs", "00", "01"}, {"two", "token", "cardKey", hostile, "00", ""}},
		Vectors:    []Vector{{hostile, hostile, hostile, "load", "3DES", "token", Counts{1, 0, 0, 1}}, {"two", "f", "", "load", "3DES", "token", Counts{2, 1, 1, 0}}},
	}
}

func newKey(t *testing.T) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, "pursekeeper/test")
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	verifier, err := note.NewVerifier(public)
	require.NoError(t, err)
	return signer, verifier
}

func signedSample(t *testing.T, r Report) (page, object []byte, key note.Verifier) {
	t.Helper()
	signer, key := newKey(t)
	signed, err := Sign(r, signer)
	require.NoError(t, err)
	page, err = signed.Page()
	require.NoError(t, err)
	object, err = signed.JSON()
	require.NoError(t, err)
	return page, object, key
}

// Both forms open to the report that was signed, under its key alone.
func TestAReportComesBack(t *testing.T) {
	page, object, key := signedSample(t, sample())
	want := sample()
	want.Version, want.Time = Version, want.Time.UTC()
	for _, content := range [][]byte{page, object} {
		got, err := Open(content, key)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		assert.False(t, got.Holds())
		_, other := newKey(t)
		_, err = Open(content, other)
		require.ErrorIs(t, err, ErrSignature)
	}
	for _, r := range []Report{{Files: []File{}}, {}} {
		assert.False(t, r.Holds(), "nothing was compared")
	}
	assert.True(t, Report{Operations: []Operation{{Counts: Counts{Compared: 1}}}}.Holds())
}

// Whatever is changed in a file is found: in the report, in the note, and in what a page shows.
func TestAChangedReportIsFound(t *testing.T) {
	page, object, key := signedSample(t, sample())
	replace := func(content []byte, old, new string) []byte {
		require.Contains(t, string(content), old)
		return bytes.Replace(content, []byte(old), []byte(new), 1)
	}
	for name, content := range map[string][]byte{
		"a count":                    replace(object, `"failed":1`, `"failed":0`),
		"an unknown field":           replace(object, `{"v":1`, `{"x":1,"v":1`),
		"another version":            replace(object, `{"v":1`, `{"v":2`),
		"a space":                    replace(object, `{"v":1`, `{ "v":1`),
		"something behind":           append(bytes.Clone(object), "{}"...),
		"a line end less":            bytes.TrimSpace(object),
		"nothing":                    {},
		"an empty object":            []byte("{}\n"),
		"a verdict shown":            replace(page, "The vectors do not hold", "The vectors hold"),
		"a row less":                 replace(page, `<tr><td>two</td>`, `<tr hidden><td>two</td>`),
		"a style that hides":         replace(page, "</style>", "#failures { display: none }</style>"),
		"a script":                   replace(page, "</body>", "<script>1</script></body>"),
		"a count in the report":      replace(page, "&#34;failed&#34;:1", "&#34;failed&#34;:0"),
		"no report":                  replace(page, `<pre id="report">`, `<pre id="other">`),
		"a second report before":     replace(page, `<body>`, `<body><pre id="report">{}</pre>`),
		"text behind the page":       append(bytes.Clone(page), ' '),
		"another key's note, though": replace(page, "vectors-report v1", "vectors-report v2"),
	} {
		_, err := Open(content, key)
		assert.Error(t, err, name)
	}
	_, err := Open(replace(page, "The vectors do not hold", "The vectors hold"), key)
	require.ErrorIs(t, err, ErrPage)

	// A note of the same key over something else is no report's.
	signer, key := newKey(t)
	text, err := sample().Encode()
	require.NoError(t, err)
	for _, other := range []string{"pursekeeper/test\n12\n" + strings.Repeat("A", 43) + "=\n", noteText("pursekeeper/other", text), noteText("pursekeeper/test", []byte("x"))} {
		signed, err := note.Sign(&note.Note{Text: other}, signer)
		require.NoError(t, err)
		object, err := Signed{text: text, note: string(signed)}.JSON()
		require.NoError(t, err)
		_, err = Open(object, key)
		require.ErrorIs(t, err, ErrSignature)
	}
}

// The page loads nothing, runs nothing, and nothing of a hostile text is markup in it.
func TestAPageLoadsNothing(t *testing.T) {
	page, _, _ := signedSample(t, sample())
	text := string(page)
	for _, never := range []string{"<script", "<img", "<link", "<iframe", "<object", ` src="`, ` href="`, "url(", "@import", "http:", "https:", ` onerror="`} {
		assert.False(t, strings.Contains(text, never), never)
	}
	assert.Contains(t, text, "default-src 'none'")
	again, _, _ := signedSample(t, Report{})
	assert.Contains(t, string(again), "None: the vectors were replayed in memory alone.")
}
