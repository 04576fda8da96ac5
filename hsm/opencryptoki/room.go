package opencryptoki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// roomVariable is set for what runs in a room: the mount namespace that it was started from, by which Furnish knows that this
// is another.
const roomVariable = "PURSEKEEPER_OPENCRYPTOKI_ROOM"

// Where openCryptoki keeps its state. Its paths are compiled in.
const (
	confDir  = "/etc/opencryptoki"
	confName = "opencryptoki.conf"
	stateDir = "/var/lib/opencryptoki"
	runDir   = "/var/run"
	lockDir  = "/var/lock"
	group    = "pkcs11"

	mountNamespace = "/proc/self/ns/mnt"
)

// Room has command, which has not been started, run in a room: with mounts, shared memory and processes of its own, so that the
// token, its daemon and their files are seen by no other process and are gone with it, however it ends. It also ends with the
// thread that starts it: who starts it holds that thread (runtime.LockOSThread) until it has waited. A user who is not root is root
// in the room and nowhere else; the kernel has to allow that.
//
// Nothing is in the room yet: command calls Furnish.
func Room(command *exec.Cmd) error {
	from, err := os.Readlink(mountNamespace)
	if err != nil {
		return fmt.Errorf("opencryptoki: room: %w", err)
	}
	command.Env = append(command.Environ(), roomVariable+"="+from)
	attributes := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL, // it is the first process of the room: with it all of them end
	}
	if uid := os.Geteuid(); uid != 0 {
		attributes.Cloneflags |= unix.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	command.SysProcAttr = attributes
	return nil
}

// InRoom reports whether this process runs in a room.
func InRoom() bool {
	from := os.Getenv(roomVariable)
	here, err := os.Readlink(mountNamespace)
	return err == nil && from != "" && from != here
}

// Furnish puts into this process's room what openCryptoki needs: one slot with the software token, not initialized, and empty folders
// in the place of the machine's. It refuses outside a room, where it would hide the machine's own.
func Furnish() error {
	if !InRoom() {
		return errors.New("opencryptoki: furnish: this process is in no room")
	}
	if _, err := os.Stat(stateDir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opencryptoki: furnish: %w", ErrNotInstalled)
	}
	if err := furnish(); err != nil {
		return fmt.Errorf("opencryptoki: furnish: %w", err)
	}
	return nil
}

func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to the room: %w", err)
	}
	// The daemon tells by /proc which of its clients live.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	lock, err := filepath.EvalSymlinks(lockDir) // before what it points to is hidden
	if err != nil {
		return err
	}
	for _, dir := range []string{confDir, stateDir, runDir, lock, "/dev/shm"} {
		if err := empty(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{filepath.Join(lock, "opencryptoki/swtok"), filepath.Join(stateDir, "swtok/TOK_OBJ")} {
		if err := os.MkdirAll(dir, 0o770); err != nil {
			return err
		}
	}
	conf := "version opencryptoki-3.1\nslot 0\n{\nstdll = libpkcs11_sw.so\n}\n"
	if err := os.WriteFile(filepath.Join(confDir, confName), []byte(conf), 0o600); err != nil {
		return err
	}
	return joinGroup()
}

// empty hides a folder behind a new one in memory.
func empty(dir string) error {
	err := os.MkdirAll(dir, 0o755) // the lock folder is below the run folder, which has been emptied
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
	}
	if err != nil {
		return fmt.Errorf("empty %s: %w", dir, err)
	}
	return nil
}

// joinGroup gives the room a list of groups in which openCryptoki's is root's: in the room of a user who is not root there is no
// other group to give files to.
func joinGroup() error {
	list := filepath.Join(confDir, "group")
	if err := os.WriteFile(list, []byte("root:x:0:\n"+group+":x:0:root\n"), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(list, "/etc/group", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /etc/group: %w", err)
	}
	return nil
}
