package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/internal/config"
)

// The commands of docs/issuance.md, pasted in its order into a shell beside a development signer, answer what the page prints.
func TestTheIssuancePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "issuance.md"))
	require.NoError(t, err)
	define := regexp.MustCompile(`(?ms)^call\(\) \{.*?; echo; \}$`).FindString(string(page))
	require.NotEmpty(t, define)
	printed := regexp.MustCompile(`(?m)^(call \w+ '.*')\n(\{.*\})$`).FindAllStringSubmatch(string(page), -1)
	require.Len(t, printed, 6)

	dir := t.TempDir()
	p := dev(t, dir)
	address := p.says(`signer +https://(\S+)`)[1]
	script := strings.ReplaceAll(define, "127.0.0.1:7443", address)
	for _, c := range printed {
		script += "\n" + c[1]
	}
	shell := exec.Command("bash", "-c", script)
	shell.Dir = dir
	out, err := shell.Output()
	require.NoError(t, err)
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, answers, len(printed), string(out))
	for i, c := range printed {
		require.True(t, json.Valid([]byte(answers[i])), answers[i])
		assert.Equal(t, c[2], answers[i], c[1])
	}
	require.Zero(t, p.terminate())
}

// Every published master is kept off a production token, those of issuance too, and no two of one algorithm are the same key.
func TestPublishedIssuanceKeysStayInDevelopment(t *testing.T) {
	seen := map[string]bool{}
	for _, set := range demoKeySets() {
		for _, key := range set.Keys {
			value, err := key.MasterKey.checkValue(set.Algorithm)
			require.NoError(t, err)
			name := set.Algorithm.String() + value.String()
			assert.False(t, seen[name], "%s %v", set.Name, key.Kind)
			seen[name] = true
			x, published := config.KeySet{Name: "x", Algorithm: set.Algorithm}, config.Key{Kind: key.Kind, KCV: value}
			n := &node{config: &config.Config{}}
			assert.ErrorContains(t, n.refusePublished(x, published), "published test key", "%s %v", set.Name, key.Kind)
			n.config.Token.Development = true
			assert.NoError(t, n.refusePublished(x, published))
		}
	}
}
