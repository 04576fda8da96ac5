package hsmtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// childVariable makes the test binary a user of the token in a process of its own; its value is "label pin".
const childVariable = "PURSEKEEPER_HSMTEST_CHILD"

func TestMain(m *testing.M) {
	if arguments, child := os.LookupEnv(childVariable); child {
		if err := use(arguments, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// use logs in to the token and then, for each line that it is given, draws random bytes and says with what end. For the line
// "login" it opens a session and logs in anew.
func use(arguments string, in io.Reader, out io.Writer) error {
	label, pin, _ := strings.Cut(arguments, " ")
	ctx := pkcs11.New(os.Getenv("HSMTEST_MODULE"))
	if ctx == nil {
		return fmt.Errorf("cannot load %s", os.Getenv("HSMTEST_MODULE"))
	}
	if err := ctx.Initialize(); err != nil {
		return err
	}
	session, err := logIn(ctx, label, pin)
	fmt.Fprintln(out, "ready", err)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if lines.Text() == "login" {
			session, err = logIn(ctx, label, pin)
		} else {
			_, err = ctx.GenerateRandom(session, 8)
		}
		fmt.Fprintln(out, lines.Text(), err)
	}
	return ctx.Finalize()
}

func logIn(ctx *pkcs11.Ctx, label, pin string) (pkcs11.SessionHandle, error) {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		if err != nil {
			return 0, fmt.Errorf("slot %d: %w", slot, err)
		}
		if info.Label != label {
			continue
		}
		session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
		if err != nil {
			return 0, err
		}
		return session, ctx.Login(session, pkcs11.CKU_USER, pin)
	}
	return 0, fmt.Errorf("no token %s", label)
}

// child is a running user of the token.
type child struct {
	t       *testing.T
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func startChild(t *testing.T, token *Token) *child {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append([]string{childVariable + "=" + token.Label + " " + token.PIN, "HSMTEST_MODULE=" + token.Module}, token.Env()...)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	require.NoError(t, err)
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	c := &child{t: t, command: command, in: in, out: bufio.NewReader(out)}
	require.Equal(t, "ready <nil>", c.answer())
	return c
}

func (c *child) ask(line string) {
	c.t.Helper()
	_, err := fmt.Fprintln(c.in, line)
	require.NoError(c.t, err)
}

func (c *child) answer() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	require.NoError(c.t, err)
	return strings.TrimSpace(line)
}

func (c *child) end() {
	c.t.Helper()
	require.NoError(c.t, c.in.Close())
	require.NoError(c.t, c.command.Wait())
}

// The token and its faults are for other processes too: two children share them, and this process steers.
func TestControlWorksFromAnotherProcess(t *testing.T) {
	token, control := NewFaultToken(t)
	first, second := startChild(t, token), startChild(t, token)
	assert.EqualValues(t, 2, control.Stats().Logins)

	both := func(line string) []string {
		first.ask(line)
		second.ask(line)
		return []string{first.answer(), second.answer()}
	}
	logInAnew := func() { // one after the other: SoftHSM does not bear logins of two processes at once
		for _, c := range []*child{first, second} {
			c.ask("login")
			assert.Equal(t, "login <nil>", c.answer())
		}
	}
	assert.Equal(t, []string{"draw <nil>", "draw <nil>"}, both("draw"))

	control.Set(Fault{Function: "C_GenerateRandom", From: 2, To: 2, Code: deviceError})
	first.ask("draw")
	assert.Equal(t, "draw <nil>", first.answer())
	second.ask("draw")
	assert.Contains(t, second.answer(), "CKR_DEVICE_ERROR", "calls are counted over both")

	control.Set(Fault{Function: "C_GenerateRandom", To: 1, Hang: HangForever})
	first.ask("draw")
	hangs(t, control, 1)
	second.ask("draw")
	assert.Equal(t, "draw <nil>", second.answer())
	control.ReleaseHangs()
	assert.Equal(t, "draw <nil>", first.answer())

	control.LoseSessions()
	for _, answer := range both("draw") {
		assert.Contains(t, answer, "CKR_SESSION_HANDLE_INVALID")
	}
	logInAnew()
	assert.Equal(t, []string{"draw <nil>", "draw <nil>"}, both("draw"))
	assert.EqualValues(t, 2, control.Stats().Losses)

	control.RemoveToken(0)
	for _, answer := range both("draw") {
		assert.Contains(t, answer, "CKR_DEVICE_REMOVED")
	}
	control.RestoreToken()
	logInAnew()
	first.end()
	second.end()
	assert.EqualValues(t, 2, control.Calls("C_Finalize"))
	assert.Zero(t, control.Stats().FinalizeWhileBusy)
}

// A process that is killed in the middle of a call leaves a control that works.
func TestControlOutlivesAKilledProcess(t *testing.T) {
	token, control := NewFaultToken(t)
	victim := startChild(t, token)
	control.Set(Fault{Function: "C_GenerateRandom", To: 1, Hang: HangForever})
	victim.ask("draw")
	hangs(t, control, 1)
	require.NoError(t, victim.command.Process.Kill())
	require.Error(t, victim.command.Wait())

	next := startChild(t, token)
	next.ask("draw")
	assert.Equal(t, "draw <nil>", next.answer())
	next.end()
}
