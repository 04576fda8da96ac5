package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// file is the path of a file whose content is the secret.
type file string

func (f file) String() string { return "file " + string(f) }

func (f file) keep(ctx context.Context, _ func(error)) { <-ctx.Done() }

// read goes from the file straight into locked memory. The mode is asked of the open file, so that it is the mode of what is
// read. A symbolic link is followed: that is how secrets are mounted in containers.
func (f file) read(context.Context) (secret.Bytes, error) {
	in, err := os.OpenFile(string(f), os.O_RDONLY|syscall.O_NONBLOCK, 0) // O_NONBLOCK: a pipe put here would hold us for ever
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Bytes{}, fmt.Errorf("%v: %w", f, ErrMissing)
	} else if err != nil {
		return secret.Bytes{}, fmt.Errorf("%v: %w", f, errors.Unwrap(err))
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%v: %w", f, errors.Unwrap(err))
	}
	switch {
	case !info.Mode().IsRegular():
		return secret.Bytes{}, fmt.Errorf("%v: not a regular file", f)
	case info.Mode().Perm()&0o077 != 0:
		return secret.Bytes{}, fmt.Errorf("%v: mode %04o: %w; chmod 0400 it", f, info.Mode().Perm(), ErrExposed)
	case info.Size() > maxLen:
		return secret.Bytes{}, fmt.Errorf("%v: %d bytes, more than any secret of this service (%d)", f, info.Size(), maxLen)
	}
	whole := secret.New(int(info.Size()))
	defer whole.Wipe()
	if _, err := io.ReadFull(in, whole.Reveal("to fill it from its file")); err != nil {
		return secret.Bytes{}, fmt.Errorf("%v: it changed while it was read", f)
	}
	content := withoutLineEnd(whole.Reveal("to leave out the line end"))
	if len(content) == 0 {
		return secret.Bytes{}, fmt.Errorf("%v: it is empty: %w", f, ErrMissing)
	}
	return secret.Copy(content), nil
}

// withoutLineEnd drops one "\n" or "\r\n" from the end.
func withoutLineEnd(content []byte) []byte {
	if rest, found := bytes.CutSuffix(content, []byte("\n")); found {
		return bytes.TrimSuffix(rest, []byte("\r"))
	}
	return content
}

// variable is an environment variable, and what was in it.
//
// The variable is removed once read, so that no child process inherits it and no later code prints it. The bytes that the
// kernel laid out when the process began stay where they are: /proc/PID/environ shows them to this user and to root until the
// process ends. A file is better.
type variable struct {
	name  string
	mu    sync.Mutex
	taken secret.Bytes // guarded by mu; empty until the first read
}

func (v *variable) String() string { return "environment variable " + v.name }

func (v *variable) keep(ctx context.Context, _ func(error)) { <-ctx.Done() }

func (v *variable) read(context.Context) (secret.Bytes, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.taken.Len() == 0 {
		value, found := os.LookupEnv(v.name)
		if !found {
			return secret.Bytes{}, fmt.Errorf("%v: it is not set: %w", v, ErrMissing)
		}
		if err := os.Unsetenv(v.name); err != nil {
			return secret.Bytes{}, fmt.Errorf("%v: cannot be removed: %w", v, err)
		}
		if value == "" {
			return secret.Bytes{}, fmt.Errorf("%v: it is empty: %w", v, ErrMissing)
		}
		v.taken = secret.Take([]byte(value))
	}
	return secret.Copy(v.taken.Reveal("to answer a copy")), nil
}
