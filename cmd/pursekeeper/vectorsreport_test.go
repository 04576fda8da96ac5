package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An auditor has the vectors replayed on the signer's token, and verifies the report with the key of its log.
func TestVectorsReport(t *testing.T) {
	h := newHome(t)
	page, object := filepath.Join(t.TempDir(), "out.html"), filepath.Join(t.TempDir(), "out.json")
	replay := []string{"vectors", "replay", "--config", h.path("pursekeeper.yaml"), "--report", page, "--report", object}
	status, out := run(t, replay)
	require.Zero(t, status, out)
	assert.Contains(t, out, "report "+page+", signed by "+strings.TrimSpace(h.read("audit.pub"))+" (key in TOKEN)")
	for _, file := range []string{page, object} {
		status, out = run(t, []string{"vectors", "check-report", file, "--key", h.path("audit.pub")})
		require.Zero(t, status, out)
		assert.Regexp(t, regexp.MustCompile(`(?s)^signed by    pursekeeper/pursekeeper-dev\+.*\ntoken +pursekeeper-dev, SoftHSM project SoftHSM v2, .*\nfile +[0-9a-f]{64}  published.json, 4 vectors\n.*, 0 failed\n$`), out)
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		changed := filepath.Join(t.TempDir(), "changed")
		require.NoError(t, os.WriteFile(changed, []byte(strings.Replace(string(content), "SoftHSM project", "SomeHSM project", 1)), 0o600))
		status, out = run(t, []string{"vectors", "check-report", changed, "--key", h.path("audit.pub")})
		assert.Equal(t, 1, status, out)
	}
	status, out = run(t, replay)
	assert.Equal(t, 1, status, "a report is not written over")
	assert.Contains(t, out, "file already exists")
	for _, wrong := range [][]string{{"--report", "out.pdf"}, {"--report", "x.json", "--target", "memory"}, {"--report", filepath.Join(h.dir, "none", "x.json")}} {
		status, _ = run(t, append([]string{"vectors", "replay"}, wrong...), inFolder(t.TempDir()))
		assert.Equal(t, 1, status, wrong)
	}

	h.write("audit.pub", "pursekeeper/pursekeeper-dev+74eb0dbe+AZognayubeCL6vJfdjQCxx7X0e97ig4SqSPKfmp+Zrd2\n")
	status, out = run(t, []string{"vectors", "replay", "--config", h.path("pursekeeper.yaml"), "--report", filepath.Join(t.TempDir(), "x.json")})
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "audit.pub says another")
}

// Vectors that do not hold, with names that would be markup, make a report that says so.
func TestVectorsReportOfFailures(t *testing.T) {
	form, err := os.ReadFile("../../testvectors/testdata/forms.json")
	require.NoError(t, err)
	const name = `<script>document.title=\"owned\"</script>`
	wrong := regexp.MustCompile(`"id": "[^"]+"`).ReplaceAllStringFunc(string(form), func(id string) string {
		return strings.TrimSuffix(id, `"`) + name + `"`
	})
	wrong = regexp.MustCompile(`"mac2": "[0-9A-F ]{2}`).ReplaceAllString(wrong, `"mac2": "00`)
	require.NotEqual(t, string(form), wrong)
	dir := t.TempDir()
	file, page, object := filepath.Join(dir, "wrong.json"), filepath.Join(dir, "out.html"), filepath.Join(dir, "out.json")
	require.NoError(t, os.WriteFile(file, []byte(wrong), 0o600))
	status, out := run(t, []string{"vectors", "replay", "--file", file, "--report", page, "--report", object}, temporary(t))
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "test vectors do not hold")
	key := regexp.MustCompile(`signed by (\S+) `).FindStringSubmatch(out)
	require.NotNil(t, key, out)
	for _, report := range []string{page, object} {
		status, out = run(t, []string{"vectors", "check-report", report, "--key", key[1]})
		assert.Equal(t, 1, status)
		assert.Contains(t, out, "a throw-away token")
		assert.Contains(t, out, "test vectors do not hold")
		assert.NotContains(t, out, " 0 failed")
	}
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.NotContains(t, string(content), "<script")
	assert.Contains(t, string(content), "&lt;script&gt;")
}
