package rpc

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/signer"
)

// Items are counted before they are decoded: a request of nothing but empty items is refused by number, and takes no memory.
func TestItemsAreCountedBeforeTheyAreDecoded(t *testing.T) {
	w := newWorld(t)
	auditor := w.as("auditor") // who has no right to the method
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for contentType, body := range map[string][]byte{
		"application/proto": bytes.Repeat([]byte{0x0A, 0x00}, 4<<20-8),
		"application/json":  []byte(`{"items":[{}` + strings.Repeat(",{}", 2<<20) + `]}`),
	} {
		r := auditor.send(verifyTacs, contentType, body)
		assert.Equal(t, http.StatusBadRequest, r.status, contentType)
		if contentType == "application/json" {
			assert.Equal(t, invalid, r.code())
			assert.Contains(t, r.message(), "expected 1 to 10000")
		}
	}
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(300<<20), "bytes allocated, of which the bodies are many")
}

func TestCountsOfItems(t *testing.T) {
	batch := func(n int) *v1.VerifyTacsRequest {
		m := &v1.VerifyTacsRequest{}
		for range n {
			m.Items = append(m.Items, &v1.VerifyTacRequest{})
		}
		return m
	}
	for _, test := range []struct {
		message proto.Message
		most    int
	}{
		{&v1.VerifyTacsRequest{}, signer.MaxTACs}, {&v1.TransactRequest{}, streamItems},
	} {
		for n, refused := range map[int]bool{0: false, 1: false, test.most: false, test.most + 1: true} {
			var m proto.Message = batch(n)
			if _, ok := test.message.(*v1.TransactRequest); ok {
				m = &v1.TransactRequest{Ref: "r", Request: &v1.TransactRequest_VerifyTacs{VerifyTacs: batch(n)}}
			}
			wire, err := proto.Marshal(m)
			assert.NoError(t, err)
			assert.Equal(t, refused, countProto(m, wire) != nil, "%T %d in binary", m, n)
			json, err := strictJSON{}.Marshal(m)
			assert.NoError(t, err)
			assert.Equal(t, refused, countJSON(m, json) != nil, "%T %d in JSON", m, n)
		}
	}
	// Two batches in one message of a stream count together, as decoding would merge them.
	half, err := proto.Marshal(batch(streamItems/2 + 1))
	assert.NoError(t, err)
	twice := protowire.AppendBytes(protowire.AppendTag(nil, streamField, protowire.BytesType), half)
	assert.Error(t, countProto(&v1.TransactRequest{}, append(twice, twice...)))
}

func TestBracesInStringsAreNoObjects(t *testing.T) {
	for text, want := range map[string]int{
		`{}`: 1, `{"a":"{{{","b":{}}`: 2, `{"\"{":"\\"}`: 1, `{"a":"\\","b":"{"}`: 1, `{"unfinished`: 1, `{"a\`: 1, ``: 0, `"\`: 0,
	} {
		assert.Equal(t, want, countObjects([]byte(text)), fmt.Sprintf("%q", text))
	}
}
