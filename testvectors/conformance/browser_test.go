package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// browse has a real browser do something with a page, and returns what it writes to its standard output. A browser that ends by a signal
// crashed, and said nothing about the page: another is asked, for as long as the time lasts.
func browse(t *testing.T, page []byte, what ...string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "report.html")
	require.NoError(t, os.WriteFile(file, page, 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	for try := 0; ; try++ {
		arguments := append([]string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
			"--user-data-dir=" + filepath.Join(dir, fmt.Sprintf("profile%d", try)),
		}, what...)
		browser := exec.CommandContext(ctx, "chromium", append(arguments, "file://"+file)...)
		browser.Env = append(os.Environ(), "HOME="+dir)
		out, err := browser.Output()
		var ended *exec.ExitError
		if errors.As(err, &ended) && !ended.Exited() && ctx.Err() == nil {
			t.Logf("the browser crashed: %v", err)
			continue
		}
		require.NoError(t, err)
		return string(out)
	}
}

// A real browser shows the verdict, every failure first and every vector, and does nothing that a hostile text asks for.
func TestAPageInABrowser(t *testing.T) {
	page, _, key := signedSample(t, sample())
	dom := browse(t, page, "--dump-dom")
	assert.Contains(t, dom, "<title>Pursekeeper conformance report, 31 January 2026, 15:59:59 UTC</title>")
	assert.NotContains(t, dom, "<script", "no element came of a text")
	assert.NotContains(t, dom, "<img")
	assert.Contains(t, dom, "&lt;script&gt;document.title=")
	rows := func(table string) int {
		_, rest, found := strings.Cut(dom, `id="`+table+`"`)
		require.True(t, found, table)
		body, _, _ := strings.Cut(rest, "</table>")
		return strings.Count(body, "<tr") - 1 // its head
	}
	assert.Equal(t, 2, rows("failures"))
	assert.Equal(t, 2, rows("vectors"))
	assert.Equal(t, 3, rows("mechanisms"))
	assert.Equal(t, 2, rows("boundaries"))
	assert.Equal(t, 1, rows("files"))
	assert.Equal(t, 2, rows("operations"), "with the sum")
	assert.Less(t, strings.Index(dom, `id="failures"`), strings.Index(dom, `id="operations"`))
	assert.Regexp(t, regexp.MustCompile(`(?s)class="verdict bad".*The vectors do not hold: 1 of 6 values failed`), dom)

	// What the browser holds of the report is the signed one.
	text, signed, err := embedded([]byte(dom))
	require.NoError(t, err)
	object, err := Signed{text: text, note: signed}.JSON()
	require.NoError(t, err)
	_, err = Open(object, key)
	require.NoError(t, err)

	held := sample()
	held.Failures, held.Operations[0].Failed, held.Vectors[0].Failed = nil, 0, 0
	page, _, _ = signedSample(t, held)
	dom = browse(t, page, "--dump-dom")
	assert.Contains(t, dom, "Every value of every vector held")
	assert.NotContains(t, dom, `id="failures"`)
}

// It prints: a browser makes a document of it.
func TestAPagePrints(t *testing.T) {
	page, _, _ := signedSample(t, sample())
	pdf := filepath.Join(t.TempDir(), "report.pdf")
	browse(t, page, "--print-to-pdf="+pdf)
	content, err := os.ReadFile(pdf)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(content), "%PDF-"))
}
