package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Wrong PINs block the PIN; PIN UNBLOCK gives its tries back, and RELOAD PIN another PIN. None of them is in any output: pocket.card
// sees to that.
func TestCardPINs(t *testing.T) {
	p := newPocket(t)
	for _, set := range []string{"demo", "demo-sm4"} {
		p.does("new --pin-file pin --key-set " + set)
		p.does("verify --pin-file pin", `VERIFY +00 20 00 00 03  \[redacted\]\n.*SW 9000`)
		for left := 2; left >= 0; left-- {
			p.fails("verify --pin-file wrong-pin", fmt.Sprintf(`the card refuses VERIFY: 63C%d`, left))
		}
		p.fails("verify --pin-file pin", `the card refuses VERIFY: 6983`)
		p.does("show", `PIN +0 tries left`)
		p.fails("pin-unblock --pin-file wrong-pin", `the card refuses PIN UNBLOCK: 6A80`)
		p.does("pin-unblock --pin-file pin", `SignCommand +APPROVED  key `+set+`/pin-unblock/1`, `PIN UNBLOCK +84 24 00 01 \S\S  \[redacted\]\n.*SW 9000`)
		p.does("verify --pin-file pin")
		p.does("pin-reload --pin-file new-pin", `SignCommand +APPROVED  key `+set+`/pin-reload/1`, `RELOAD PIN +80 5E 00 00 08  \[redacted\]\n.*SW 9000`)
		p.fails("verify --pin-file pin", `the card refuses VERIFY: 63C2`)
		p.does("verify --pin-file new-pin")
		require.NoError(t, os.Remove(p.file))
	}
}

// Where a PIN may come from, and what none is.
func TestCardPINSources(t *testing.T) {
	p := newPocket(t)
	p.does("new --pin-file pin")
	status, out := run(t, p.arguments("verify", "--pin-env", "CARD_PIN"), inFolder(p.dir), briefly, withEnv("CARD_PIN="+pocketPINs["pin"]))
	assert.Zero(t, status, out)
	p.clean(out)
	for name, c := range map[string]struct{ content, why string }{
		"one digit":       {"1", `wrong length, expected 2 to 12 digits`},
		"thirteen digits": {"1234567890123", `wrong length, expected 2 to 12 digits`},
		"letters":         {"12a456", `a character is not a digit`},
		"empty":           {"", `it is empty`},
	} {
		p.write("odd", c.content)
		for _, command := range []string{"verify", "pin-unblock", "pin-reload", "new --file other.json"} {
			out := p.fails(command+" --pin-file odd", c.why)
			if c.content != "" {
				assert.NotContains(t, strings.ReplaceAll(out, p.dir, ""), " "+c.content+" ", name)
			}
		}
	}
	require.NoError(t, os.Chmod(p.path("pin"), 0o640))
	p.fails("verify --pin-file pin", `mode 0640: readable by others than its owner`)
	p.fails("verify", `PIN: there is no terminal to ask`)
	status, out = p.card("verify", "--pin-file", "pin", "--pin-env", "X")
	assert.NotZero(t, status)
	assert.Contains(t, out, "can't be used together")
	status, out = p.card("verify", "--pin", "1234")
	assert.NotZero(t, status)
	assert.Contains(t, out, "unknown flag --pin")
	p.does("show", `PIN +3 tries left`)
}

// terminal is a pseudo terminal with a program in it.
func terminal(t *testing.T, arguments []string, settings ...setting) (person *os.File, p *program) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = person.Close() })
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0))
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = far.Close() })
	p = start(t, arguments, append(settings, func(c *exec.Cmd) {
		c.Stdin = far
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true, Setctty: true}
	})...)
	return person, p
}

// quiet waits until the terminal echoes nothing.
func quiet(t *testing.T, person *os.File) {
	t.Helper()
	eventually(t, "the echo is off", func() bool { return !echoes(t, person) })
}

func echoes(t *testing.T, person *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(person.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return state.Lflag&unix.ECHO != 0
}

// seen is what the terminal has shown.
func seen(t *testing.T, person *os.File) string {
	t.Helper()
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCINQ)
	require.NoError(t, err)
	shown := make([]byte, n)
	if n > 0 {
		_, err = person.Read(shown)
		require.NoError(t, err)
	}
	return string(shown)
}

// A person types the PIN, and the terminal does not show it.
func TestCardAsksForThePIN(t *testing.T) {
	p := &pocket{t: t, dir: t.TempDir()}
	p.file = p.path("card.json")
	p.pins()
	for _, c := range []struct {
		command, question, pin string
		status                 int
	}{
		{"new --with-pin", `PIN of the new card: `, "pin", 0},
		{"verify", `PIN: `, "pin", 0},
		{"verify", `PIN: `, "wrong-pin", 1},
	} {
		person, asked := terminal(t, p.arguments(words(c.command+" --file card.json")...), inFolder(p.dir), briefly)
		asked.says(c.question)
		quiet(t, person)
		_, err := person.WriteString(pocketPINs[c.pin] + "\n")
		require.NoError(t, err)
		assert.Equal(t, c.status, asked.status(patience), asked.out.String())
		assert.True(t, echoes(t, person), "the terminal is as it was")
		assert.NotContains(t, seen(t, person), pocketPINs[c.pin])
		p.clean(asked.out.String())
	}
	p.does("show --file card.json", `PIN +2 tries left`)
}

// An interrupt ends the question and gives the terminal back.
func TestCardQuestionIsInterrupted(t *testing.T) {
	p := &pocket{t: t, dir: t.TempDir()}
	person, asked := terminal(t, p.arguments("new", "--with-pin", "--file", "card.json"), inFolder(p.dir), briefly)
	asked.says(`PIN of the new card: `)
	quiet(t, person)
	_, err := person.WriteString("\x03")
	require.NoError(t, err)
	assert.Equal(t, 1, asked.status(patience))
	assert.True(t, echoes(t, person))
	assert.NoFileExists(t, p.path("card.json"))
}
