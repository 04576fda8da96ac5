package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// A client that is killed at any moment leaves a whole card, which then goes on: what the card took is on it, and the signer learns
// of what it had open.
func TestCardSurvivesKills(t *testing.T) {
	p := newPocket(t)
	p.does("new")
	begin := time.Now()
	p.does("load 10")
	whole := time.Since(begin)
	total, killed, halfway := 10, 0, 0
	for range 40 {
		c := start(t, p.arguments("load", "10"), inFolder(p.dir))
		select {
		case <-c.ended:
		case <-time.After(rand.N(whole + whole/4)):
			c.kill()
		}
		if c.command.ProcessState.Success() {
			total += 10
			continue
		}
		killed++
		was := total
		total = balanceOf(p)
		require.Contains(t, []int{was, was + 10}, total)
		if status, out := p.card("prove"); status != 0 {
			require.Contains(t, out, "has no proof of", out)
			p.does("settle", `NOT_APPLIED`)
		} else if total > was {
			halfway++ // taken, and confirmed now or by the killed client
		}
	}
	t.Logf("%d of 40 killed, %d of them after the card took the load", killed, halfway)
	assert.NotZero(t, killed)
	p.does("load 10", fmt.Sprintf(`balance of EP +%d fen`, total+10))
	assert.Contains(t, p.does("prove"), "nothing is open")
}

func balanceOf(p *pocket) int {
	p.t.Helper()
	found := regexp.MustCompile(`purse EP +(\d+) fen`).FindStringSubmatch(p.does("show"))
	require.NotNil(p.t, found)
	n, err := strconv.Atoi(found[1])
	require.NoError(p.t, err)
	return n
}

// What a killed client left beside the card is written over, and a half of a new card is never taken for the card.
func TestCardFileIsReplacedWhole(t *testing.T) {
	p := newPocket(t)
	p.does("new")
	require.NoError(t, os.WriteFile(p.file+".new", []byte(`{"format":"pursekeeper-card-v1","half":`), 0o644))
	p.does("load 100")
	p.shows(100, 1, 0, 0)
	info, err := os.Stat(p.file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "the mode of what was left does not stay")
	assert.NoFileExists(t, p.file+".new")

	// A link to somewhere else goes and is not followed, and where the file is a link the card stays where it is.
	elsewhere := p.path("elsewhere")
	p.write("elsewhere", "theirs")
	require.NoError(t, os.Symlink(elsewhere, p.file+".new"))
	p.does("load 100")
	content, err := os.ReadFile(elsewhere)
	require.NoError(t, err)
	assert.Equal(t, "theirs", string(content))
	assert.NoFileExists(t, p.file+".new")
	require.NoError(t, os.Rename(p.file, p.path("moved.json")))
	require.NoError(t, os.Symlink(p.path("moved.json"), p.file))
	p.does("settle", `nothing was open`)
	p.does("load 100")
	target, err := os.Readlink(p.file)
	require.NoError(t, err)
	assert.Equal(t, p.path("moved.json"), target)
}

// One command has the card at a time, and another is told so at once.
func TestCardIsOneCommandsAtATime(t *testing.T) {
	p := newPocket(t)
	p.does("new")
	held, err := os.Open(p.file)
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(held.Fd()), syscall.LOCK_EX))
	for _, command := range []string{"load 1", "show", "balance"} {
		p.fails(command, `card.json: another command has the card`)
	}
	require.NoError(t, held.Close())

	// Many at once: each one either had the card alone, and loaded it, or was told.
	var all []*program
	for range 8 {
		all = append(all, start(t, p.arguments("load", "1"), inFolder(p.dir)))
	}
	loaded := 0
	for _, c := range all {
		if c.status(patience) == 0 {
			loaded++
		} else {
			assert.Contains(t, c.out.String(), "another command has the card")
		}
	}
	assert.Positive(t, loaded)
	p.shows(loaded, loaded, 0, 0)
}

// The lock goes over to the file that replaces the locked one, before it has the name.
func TestCardStaysLockedWhenItIsReplaced(t *testing.T) {
	p := &pocket{t: t, dir: t.TempDir()}
	p.file = p.path("card.json")
	p.pins()
	p.does("new --file card.json --pin-file pin")
	file, err := openCard(p.file)
	require.NoError(t, err)
	for range 2 {
		before := file.saved
		d := newDesk(t.Context(), file)
		d.out = io.Discard
		require.NoError(t, d.powerUp())
		wrong := secret.Copy([]byte(pocketPINs["wrong-pin"]))
		assert.Error(t, d.verifyPIN(wrong))
		wrong.Wipe()
		assert.NotEqual(t, before, file.saved, "a try is spent")
		p.fails("show --file card.json", `another command has the card`)
	}
	require.NoError(t, file.close())
	p.does("show --file card.json", `PIN +1 tries left`)
}
