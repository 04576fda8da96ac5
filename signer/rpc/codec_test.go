package rpc

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
)

// unknownField is field 999, a string, in binary.
func unknownField(value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, 999, protowire.BytesType), value)
}

// A field that the API does not have is refused wherever it is, in JSON and in binary, and its value is not repeated.
func TestUnknownFieldsAreRefused(t *testing.T) {
	transaction := &v1.Transaction{Key: &v1.Key{Set: "demo"}}
	transaction.Key.ProtoReflect().SetUnknown(unknownField(demoTAC))
	inList := &v1.AuthorizeLoadResponse{Settled: []*v1.Settled{{}, {}}}
	inList.Settled[1].ProtoReflect().SetUnknown(unknownField(demoTAC))
	for _, c := range []struct {
		name, message string
		binary        proto.Message
		json          string
		into          proto.Message
	}{
		{
			"nested", "Key: unknown field 999", &v1.GetTransactionResponse{Transaction: transaction},
			`{"transaction":{"key":{"set":"demo","secret":"` + demoTAC + `"}}}`, &v1.GetTransactionResponse{},
		},
		{
			"in a list", "Settled: unknown field 999", inList,
			`{"settled":[{},{"secret":"` + demoTAC + `"}]}`, &v1.AuthorizeLoadResponse{},
		},
	} {
		encoded, err := proto.Marshal(c.binary)
		require.NoError(t, err)
		err = strictProto{}.Unmarshal(encoded, c.into)
		require.EqualError(t, err, c.message, c.name)
		err = strictJSON{"json"}.Unmarshal([]byte(c.json), c.into)
		require.ErrorContains(t, err, "secret: unknown field", c.name)
		quiet(t, err.Error(), c.name)
	}
}

// An enum number that the API does not have would read as "left out", and a list of one purse as a list of all.
func TestUnknownEnumNumbersAreRefused(t *testing.T) {
	for _, m := range []proto.Message{
		&v1.ListTransactionsRequest{KeySet: "demo", Purse: 9},
		&v1.GetTransactionResponse{Transaction: &v1.Transaction{Purse: 9}},
	} {
		encoded, err := proto.Marshal(m)
		require.NoError(t, err)
		require.EqualError(t, strictProto{}.Unmarshal(encoded, m), "purse: 9 is not a number of Purse")
	}
	m := &v1.ListTransactionsRequest{}
	require.EqualError(t, strictJSON{"json"}.Unmarshal([]byte(`{"purse":9}`), m), "purse: 9 is not a number of Purse")
	require.NoError(t, strictJSON{"json"}.Unmarshal([]byte(`{"purse":1}`), m))
	require.Equal(t, v1.Purse_PURSE_ED, m.Purse)
}

// No message of the API has a map today; the codec looks into them all the same.
func TestMapsAreLookedInto(t *testing.T) {
	text, message, enum := descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE,
		descriptorpb.FieldDescriptorProto_TYPE_ENUM
	one, many := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	entry := func(name string, value *descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
		key := &descriptorpb.FieldDescriptorProto{Name: proto.String("key"), Number: proto.Int32(1), Type: &text, Label: one}
		return &descriptorpb.DescriptorProto{
			Name: &name, Field: []*descriptorpb.FieldDescriptorProto{key, value},
			Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
		}
	}
	value := func(kind *descriptorpb.FieldDescriptorProto_Type, name string) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: proto.String("value"), Number: proto.Int32(2), Type: kind, TypeName: &name, Label: one}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("maps.proto"), Syntax: proto.String("proto3"),
		EnumType: []*descriptorpb.EnumDescriptorProto{{
			Name: proto.String("E"), Value: []*descriptorpb.EnumValueDescriptorProto{{Name: proto.String("E0"), Number: proto.Int32(0)}},
		}},
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("M"),
			Field: []*descriptorpb.FieldDescriptorProto{
				{Name: proto.String("ms"), Number: proto.Int32(1), Type: &message, TypeName: proto.String(".M.MsEntry"), Label: many},
				{Name: proto.String("es"), Number: proto.Int32(2), Type: &message, TypeName: proto.String(".M.EsEntry"), Label: many},
			},
			NestedType: []*descriptorpb.DescriptorProto{entry("MsEntry", value(&message, ".M")), entry("EsEntry", value(&enum, ".E"))},
		}},
	}, nil)
	require.NoError(t, err)
	m := dynamicpb.NewMessage(file.Messages().Get(0))
	for body, problem := range map[string]string{
		`{"ms":{"a":{"ms":{}}},"es":{"a":0}}`: "",
		`{"ms":{"a":{"x":1}}}`:                "x: unknown field",
		`{"es":{"a":7}}`:                      "7 is not a number of E",
		`{"ms":{"a":{"es":{"a":7}}}}`:         "7 is not a number of E",
	} {
		err := strictJSON{"json"}.Unmarshal([]byte(body), m)
		if problem == "" {
			require.NoError(t, err, body)
			continue
		}
		require.ErrorContains(t, err, problem, body)
	}
}

func TestCodecsTakeMessagesAlone(t *testing.T) {
	for _, codec := range []connect.Codec{strictJSON{"json"}, strictProto{}} {
		_, err := codec.Marshal("text")
		require.ErrorContains(t, err, "bug: string is not a protocol buffer message")
		require.ErrorContains(t, codec.Unmarshal(nil, new(string)), "bug: *string")
	}
}

// The same over the wire, in binary: unknown fields, wire garbage, text that is not UTF-8.
func TestMalformedBinary(t *testing.T) {
	w := newWorld(t)
	platform := w.as("platform")
	good, err := proto.Marshal(demoMessage())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		body    []byte
		message string
	}{
		"unknown field": {append(bytes.Clone(good), unknownField(demoTAC)...), "AuthorizeLoadRequest: unknown field 999"},
		"unknown enum":  {append(bytes.Clone(good), protowire.AppendVarint(protowire.AppendTag(nil, 4, protowire.VarintType), 7)...), "purse: 7 is not a number of Purse"},
		"cut":           {good[:len(good)-1], "unmarshal message"},
		"not UTF-8":     {protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "\xff"), "UTF-8"},
		"JSON":          {[]byte(`{"keySet":"demo"}`), "unmarshal message"},
	} {
		r := platform.send(authorizeLoad, "application/proto", c.body)
		assert.Equal(t, invalid, r.code(), "%s: %v", name, r.body)
		assert.Contains(t, r.message(), c.message, name)
		quiet(t, r.message(), name)
	}
	m := demoMessage()
	m.ProtoReflect().SetUnknown(unknownField("x"))
	for _, options := range [][]connect.ClientOption{nil, {connect.WithGRPC()}, {connect.WithGRPCWeb()}} {
		_, err := platform.signer(options...).AuthorizeLoad(t.Context(), m)
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
		assert.ErrorContains(t, err, "unknown field 999")
	}
	assert.Empty(t, w.attempts())
}

// A request is at most MaxRequest bytes, before and after decompression.
func TestLargeRequests(t *testing.T) {
	w := newWorld(t)
	for _, http2 := range []bool{false, true} {
		platform := w.dial(w.tlsAs("platform"), http2)
		pad := func(size int) []byte {
			return []byte(`{"keySet":"` + strings.Repeat("x", size-len(`{"keySet":""}`)) + `"}`)
		}
		assert.Equal(t, "not_found", platform.send(authorizeLoad, "application/json", pad(MaxRequest)).code())
		assert.Equal(t, "resource_exhausted", platform.send(authorizeLoad, "application/json", pad(MaxRequest+1)).code())
		// The server may close before a client has written all of it; what must not happen is another answer.
		response, err := platform.http.Post(platform.base+authorizeLoad, "application/json", bytes.NewReader(pad(10<<20)))
		if err == nil {
			assert.Equal(t, http.StatusTooManyRequests, response.StatusCode)
			_ = response.Body.Close()
		}
		client := platform.signer(connect.WithGRPC(), connect.WithSendGzip())
		_, err = client.AuthorizeLoad(t.Context(), &v1.AuthorizeLoadRequest{KeySet: strings.Repeat("x", 10<<20)})
		if http2 {
			assert.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err), "%v", err)
		}
		bomb := platform.bomb(t)
		assert.Equal(t, "resource_exhausted", bomb.code())
		assert.Contains(t, bomb.message(), "it is not unpacked further")
	}
	assert.Empty(t, w.attempts())
	w.as("platform").approved(demoLoad())
}

// bomb sends 10 MB of spaces, compressed to a few kilobytes.
func (c caller) bomb(t *testing.T) reply {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, err := zip.Write(bytes.Repeat([]byte(" "), 10<<20))
	require.NoError(t, err)
	require.NoError(t, zip.Close())
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.base+authorizeLoad, &packed)
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Content-Encoding", "gzip")
	return c.do(request)
}
