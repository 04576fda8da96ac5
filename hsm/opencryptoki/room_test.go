package opencryptoki_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/hsm/opencryptoki"
)

// state is what openCryptoki has on the machine: every file of it, with its size and time.
func state(t *testing.T) (files map[string]string) {
	t.Helper()
	files = map[string]string{}
	for _, root := range []string{"/etc/opencryptoki", "/var/lib/opencryptoki", "/run/lock/opencryptoki", "/run/pkcsslotd.pid", "/run/pkcsslotd.socket",
		"/dev/shm/var.lib.opencryptoki.swtok"} {
		err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			if os.IsNotExist(err) || os.IsPermission(err) { // of a user who is not root: then it cannot be changed either
				return nil
			}
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err == nil {
				files[path] = info.Mode().String() + " " + info.ModTime().String()
			}
			return err
		})
		require.NoError(t, err)
	}
	return files
}

// A whole life of a token in a room leaves nothing on the machine.
func TestARoomLeavesTheMachineAlone(t *testing.T) {
	if opencryptoki.InRoom() { // the test's other process: see OnOpenCryptoki
		hsmtest.OnOpenCryptoki(t, liveInARoom)
		return
	}
	t.Setenv(namesake, filepath.Join(t.TempDir(), "processes"))
	before := state(t)
	hsmtest.OnOpenCryptoki(t, liveInARoom)
	assert.Equal(t, before, state(t))
	room, err := os.ReadFile(os.Getenv(namesake))
	require.NoError(t, err)
	require.NotEmpty(t, room)
	all, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	require.NoError(t, err)
	require.NotEmpty(t, all)
	for _, process := range all {
		of, err := os.Readlink(process)
		if err == nil { // it may have ended, or be another user's
			assert.NotEqual(t, string(room), of, "%s is left of the room", process)
		}
	}
}

// namesake names the file in which the room's first process leaves the name of the room's processes.
const namesake = "OPENCRYPTOKI_TEST_PROCESSES"

func liveInARoom(t *testing.T, token *hsmtest.Token, daemon *opencryptoki.Daemon) {
	require.NotNil(t, daemon)
	room, err := os.Readlink("/proc/self/ns/pid")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(os.Getenv(namesake), []byte(room), 0o600))
	second, err := opencryptoki.Start(t.Context())
	require.NoError(t, err)
	assert.Nil(t, second, "one runs already")
	_, err = opencryptoki.Init(t.Context(), "another", token.PIN, token.SOPIN)
	require.ErrorContains(t, err, "none of 1 tokens", "the token has an owner")

	objects, err := os.ReadDir("/var/lib/opencryptoki/swtok")
	require.NoError(t, err)
	assert.NotEmpty(t, objects, "the token is here")
	first, err := os.ReadFile("/proc/1/cmdline")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(first), os.Args[0]), "this process is the room's first")

	require.NoError(t, daemon.Kill())
	assert.False(t, opencryptoki.Running(t.Context()))
	require.NoError(t, daemon.Kill(), "twice is as good")
	third, err := opencryptoki.Start(t.Context())
	require.NoError(t, err)
	require.NotNil(t, third)
	assert.True(t, opencryptoki.Running(t.Context()))
}
