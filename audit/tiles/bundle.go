package tiles

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/audit"
)

// AppendEntry appends an entry to a bundle:
//
//	length (2, big-endian) | entry
//
// An entry that Encode made fits.
func AppendEntry(bundle, entry []byte) ([]byte, error) {
	if len(entry) > audit.MaxSize {
		return nil, fmt.Errorf("entry of %d bytes, expected at most %d", len(entry), audit.MaxSize)
	}
	return append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...), nil
}

// EntrySize is how many bytes AppendEntry appends.
func EntrySize(entry []byte) int { return 2 + len(entry) }

var errCut = errors.New("the bundle ends within an entry")

// SplitBundle returns the entries of a bundle, which are parts of it. It takes up to one more than a full bundle has, so that a
// verifier can say that one was inserted.
func SplitBundle(bundle []byte) (entries [][]byte, err error) {
	entries = make([][]byte, 0, Width)
	for len(bundle) > 0 {
		if len(bundle) < 2 {
			return entries, errCut
		}
		end := 2 + int(binary.BigEndian.Uint16(bundle))
		if len(bundle) < end {
			return entries, errCut
		}
		entries = append(entries, bundle[2:end:end])
		bundle = bundle[end:]
		if len(entries) > Width+1 {
			return entries, fmt.Errorf("the bundle holds more than %d entries", Width+1)
		}
	}
	return entries, nil
}
