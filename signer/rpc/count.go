package rpc

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/signer"
)

// An item of a batch has two bytes on the wire when nothing is in it, and a hundred times that in memory. So items are counted before
// a message is decoded: eight megabytes of nothing would otherwise take gigabytes, of a caller who has no right yet.

// Field numbers of the batch: its items, and where a stream's request holds it.
const (
	itemsField  = 1
	streamField = 17
)

// streamItems bounds the items of all batches in one message of a stream, which has room for fewer that are whole.
const streamItems = 1000

// countProto refuses a batch of more items than there may be, in binary.
func countProto(m proto.Message, data []byte) error {
	switch m.(type) {
	case *v1.VerifyTacsRequest:
		return atMost(countFields(data, itemsField, nil), signer.MaxTACs)
	case *v1.TransactRequest:
		n := 0
		countFields(data, streamField, func(batch []byte) { n += countFields(batch, itemsField, nil) })
		return atMost(n, streamItems)
	}
	return nil
}

func atMost(n, most int) error {
	if n > most {
		return fmt.Errorf("items: %d, expected 1 to %d", n, most)
	}
	return nil
}

// countFields counts the fields of a number and shows each that has a length. What is malformed ends the count: decoding refuses it.
func countFields(data []byte, number protowire.Number, each func([]byte)) (n int) {
	for len(data) > 0 {
		at, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			return n
		}
		length := protowire.ConsumeFieldValue(at, kind, data[tag:])
		if length < 0 {
			return n
		}
		if at == number {
			n++
			if value, read := protowire.ConsumeBytes(data[tag:]); each != nil && kind == protowire.BytesType && read > 0 {
				each(value)
			}
		}
		data = data[tag+length:]
	}
	return n
}

// countJSON is countProto for JSON: no message of the API that a batch is in has more objects than its items and those around them.
func countJSON(m proto.Message, data []byte) error {
	switch m.(type) {
	case *v1.VerifyTacsRequest:
		return atMost(countObjects(data)-1, signer.MaxTACs)
	case *v1.TransactRequest:
		return atMost(countObjects(data)-2, streamItems)
	}
	return nil
}

// countObjects counts the opening braces that are in no string.
func countObjects(data []byte) (n int) {
	for len(data) > 0 {
		i := bytes.IndexAny(data, `{"`)
		if i < 0 {
			return n
		}
		if data[i] == '{' {
			n++
			data = data[i+1:]
			continue
		}
		data = data[i+1:]
		for {
			i := bytes.IndexAny(data, `\"`)
			if i < 0 || data[i] == '\\' && i+2 > len(data) {
				return n
			}
			if data[i] == '"' {
				data = data[i+1:]
				break
			}
			data = data[min(i+2, len(data)):]
		}
	}
	return n
}
