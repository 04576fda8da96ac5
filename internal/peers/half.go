package peers

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxFile is the most that is read of one file, in bytes: a list with half a million revoked certificates is smaller.
const maxFile = 32 << 20

// file is one file as it was read.
type file struct {
	field, path string
	content     []byte
	mode        fs.FileMode // who may read it
	err         error
}

// half is one of the two sets of files that are taken whole or not at all.
type half[T any] struct {
	files []file // field and path
	parse func(files []file, before *T, now time.Time) (*T, error)

	used   digest // of what is in use
	seen   digest // of the look before
	failed digest // of what was found to be unusable last
	err    error  // why the newest content is not in use; nil when it is
}

type digest [sha256.Size]byte

// look reads the files. What has changed is taken when it was the same at the look before, for a file may be written while it is read, and
// two files are never replaced at one moment; at once when that is asked for. taken is nil when nothing is new, or the new is of no use:
// news says that it is the first look to find that.
func (h *half[T]) look(before *T, now time.Time, atOnce bool) (taken *T, news bool, err error) {
	read := make([]file, len(h.files))
	for i, f := range h.files {
		read[i] = f
		read[i].content, read[i].mode, read[i].err = readFile(f.path)
		defer clear(read[i].content)
	}
	is := digestOf(read)
	settled := is == h.seen || atOnce
	h.seen = is
	switch {
	case is == h.used:
		h.err, h.failed = nil, digest{}
		return nil, false, nil
	case !settled:
		return nil, false, nil
	}
	taken, h.err = h.parse(read, before, now)
	if h.err != nil {
		news, h.failed = h.failed != is, is
		return nil, news, h.err
	}
	h.used, h.failed = is, digest{}
	return taken, true, nil
}

func readFile(path string) (content []byte, mode fs.FileMode, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // to open a pipe would wait for its writer, and nothing would be looked at again
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() //nolint:errcheck // it is only read
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: expected a regular file", path)
	}
	content, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return content, info.Mode().Perm(), err
}

// digestOf tells states of files apart, among them those that cannot be read.
func digestOf(files []file) (d digest) {
	h := sha256.New()
	for _, f := range files {
		text := f.content
		if f.err != nil {
			text = []byte("error: " + f.err.Error())
		}
		_ = binary.Write(h, binary.BigEndian, []uint64{uint64(f.mode), uint64(len(text))}) // a hash takes all
		h.Write(text)
	}
	return digest(h.Sum(nil))
}

// problem says what is wrong with the file.
func (f *file) problem(format string, args ...any) error {
	return &Problem{Field: f.field, Err: fmt.Errorf("%s "+format, append([]any{f.path}, args...)...)}
}

var errCut = errors.New("ends within a block of PEM: it was not written to its end")

// blocks are the contents of the PEM blocks of one type. Another type is refused, and so is a block that was cut off.
func (f *file) blocks(kind, what string) (all [][]byte, err error) {
	if f.err != nil {
		return nil, &Problem{Field: f.field, Err: f.err}
	}
	rest := f.content
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != kind {
			return nil, f.problem("holds a %q, expected %s in PEM alone", block.Type, what)
		}
		all = append(all, block.Bytes)
	}
	if bytes.Contains(rest, []byte("-----BEGIN")) {
		return nil, f.problem("%w", errCut)
	}
	if len(all) == 0 {
		return nil, f.problem("holds no %s in PEM", what)
	}
	return all, nil
}
