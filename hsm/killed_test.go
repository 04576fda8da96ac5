package hsm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// killChild makes the test binary a process that makes a master and destroys it, to be killed in the middle; its value is
// "module label pin boundary".
const killChild = "PURSEKEEPER_HSM_TEST_KILLED"

func TestMain(m *testing.M) {
	if arguments, child := os.LookupEnv(killChild); child {
		if err := makeAndDestroy(strings.Fields(arguments), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func makeAndDestroy(arguments []string, in io.Reader, out io.Writer) error {
	ctx := context.Background()
	token, err := Open(ctx, Config{Module: arguments[0], TokenLabel: arguments[1],
		PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(arguments[2])), nil }})
	if err != nil {
		return err
	}
	key := secret.Take(unhex(backupBytes))
	defer key.Wipe()
	v, err := BackupCheckValue(key)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	if _, err := bufio.NewReader(in).ReadString('\n'); err != nil {
		return err
	}
	boundary := keyderive.BoundaryToken
	if arguments[3] == keyderive.BoundaryProcess.String() {
		boundary = keyderive.BoundaryProcess
	}
	spec, _, err := token.GenerateMaster(ctx, newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, boundary), BackupUnder("escrow", v))
	if err != nil {
		return err
	}
	if err := token.DestroyMaster(ctx, spec.Label, spec.KCV); err != nil {
		return err
	}
	fmt.Fprintln(out, "done")
	return token.Close()
}

// A process that is killed inside any call that makes or destroys something leaves a whole master or none, and what it left is found by
// the inventory and destroyed by the next process.
func TestKilledInTheMiddle(t *testing.T) {
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryProcess} {
		t.Run(boundary.String(), func(t *testing.T) {
			made, control := hsmtest.NewFaultToken(t)
			first, err := Open(context.Background(), configOf(made))
			require.NoError(t, err)
			importBackup(t, first)
			sealing, _, err := first.GenerateMaster(context.Background(), newSpec("x", keyderive.KindLoad, suite.TDES, keyderive.BoundaryProcess), WithoutBackup())
			require.NoError(t, err) // and the sealing key with it
			require.NoError(t, first.DestroyMaster(context.Background(), sealing.Label, sealing.KCV))
			want := durable(t, first)
			require.NoError(t, first.Close())
			found := 0
			for _, function := range []string{"C_CreateObject", "C_GenerateKey", "C_DeriveKey", "C_WrapKey", "C_UnwrapKey", "C_DestroyObject"} {
				for call := uint64(1); killAt(t, made, control, boundary, function, call); call += 2 {
					found += afterTheKill(t, made, want)
				}
				afterTheKill(t, made, want)
			}
			assert.Positive(t, found, "some kill came when the master was whole")
		})
	}
}

// killAt kills a child inside a call; false is that the child was done before it came to that call.
func killAt(t *testing.T, made *hsmtest.Token, control *hsmtest.Control, boundary keyderive.Boundary, function string, call uint64) bool {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append([]string{killChild + "=" + strings.Join([]string{made.Module, made.Label, made.PIN, boundary.String()}, " ")}, made.Env()...)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	require.NoError(t, err)
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	hanging := control.Stats().Hanging
	control.Set(hsmtest.Fault{Function: function, From: call, To: call, Hang: hsmtest.HangForever})
	_, err = fmt.Fprintln(in, "go")
	require.NoError(t, err)
	done := make(chan bool, 1)
	go func() {
		line, _ := lines.ReadString('\n')
		done <- line == "done\n"
	}()
	finished := false
	require.Eventually(t, func() bool {
		select {
		case finished = <-done:
			require.True(t, finished, "the child failed")
			return true
		default:
			return control.Stats().Hanging > hanging
		}
	}, patience, tick)
	if !finished {
		require.NoError(t, command.Process.Kill())
	}
	_ = command.Wait()
	control.Clear()
	return !finished
}

// afterTheKill finds what was left, whole, destroys it, and counts it.
func afterTheKill(t *testing.T, made *hsmtest.Token, want int) (found int) {
	t.Helper()
	ctx := context.Background()
	token, err := Open(ctx, configOf(made))
	require.NoError(t, err)
	defer func() { require.NoError(t, token.Close()) }()
	inventory, err := token.Inventory(ctx)
	require.NoError(t, err)
	for _, o := range inventory.Objects {
		if o.Kind > ObjectSealed {
			continue
		}
		found++
		boundary := keyderive.BoundaryToken
		if o.Kind == ObjectSealed {
			boundary = keyderive.BoundaryProcess
		}
		spec := KeySpec{Label: o.Label, ID: o.ID, Kind: keyderive.KindLoad, Algorithm: o.Algorithm, Boundary: boundary, IssuerLevels: 1, KCV: o.KCV}
		assert.Empty(t, inventory.Compare([]KeySpec{spec}), "the master is whole")
		require.NoError(t, token.Adopt(ctx, spec))
		macOf(t, keyOf(t, token, o.Label))
		require.NoError(t, token.DestroyMaster(ctx, o.Label, o.KCV))
	}
	assert.Equal(t, want, durable(t, token))
	return found
}
