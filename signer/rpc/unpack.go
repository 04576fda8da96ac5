package rpc

import (
	"compress/gzip"
	"errors"
	"io"

	"connectrpc.com/connect"
)

// unpacker reads gzip, and ends with an error beyond most bytes. A message that is too large is read to its end otherwise, to tell how large it
// is: a megabyte of zeros is a thousand bytes on the wire, and a caller could have the processors for little.
type unpacker struct {
	gzip.Reader
	most, left int64
}

var errUnpacked = errors.New("it is not unpacked further")

// unpackAtMost reads messages in gzip of at most most bytes; one byte more is read, for whoever refuses it.
func unpackAtMost(most int64) connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor { return &unpacker{most: most} },
		func() connect.Compressor { return gzip.NewWriter(io.Discard) })
}

// Reset begins with a new source.
func (u *unpacker) Reset(source io.Reader) error {
	u.left = u.most + 1
	return u.Reader.Reset(source)
}

func (u *unpacker) Read(p []byte) (int, error) {
	if u.left <= 0 {
		return 0, errUnpacked
	}
	n, err := u.Reader.Read(p[:min(int64(len(p)), u.left)])
	u.left -= int64(n)
	return n, err
}
