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

// docs/card.md is what the commands print: it is run from its beginning to its end, and only what is drawn at random, or follows from it
// and from the clock, may be other digits than on the page.
func TestCardGuide(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "card.md"))
	require.NoError(t, err)
	p := newPocket(t)
	p.write("wrong", pocketPINs["wrong-pin"])
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for _, step := range strings.Split("\n"+block[1], "\n$ pursekeeper card ")[1:] {
			command, printed, _ := strings.Cut(step, "\n")
			status, out := p.card(words(command)...)
			assert.Equal(t, undrawn(strings.TrimSpace(printed)), undrawn(strings.TrimSpace(out)), "card %s", command)
			refused := strings.Contains(printed, "\npursekeeper: ")
			assert.Equal(t, refused, status == 1, "card %s: status %d", command, status)
			ran++
		}
	}
	assert.Greater(t, ran, 20)
}

// undrawn hides what another run draws otherwise: runs of hex digits, but not amounts in words.
func undrawn(text string) string {
	return regexp.MustCompile(`[0-9A-F]{4,}( fen)?`).ReplaceAllStringFunc(text, func(digits string) string {
		if strings.HasSuffix(digits, " fen") {
			return digits
		}
		return strings.Repeat("·", len(digits))
	})
}
