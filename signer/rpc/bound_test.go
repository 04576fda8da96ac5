package rpc

import (
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/policy"
)

// requests are one empty request of every kind that a stream takes, by the name of its method.
func requests(t *testing.T) map[string]*v1.TransactRequest {
	t.Helper()
	all := map[string]*v1.TransactRequest{}
	methods := v1.File_pursekeeper_v1_signer_proto.Services().ByName("SignerService").Methods()
	for i := range methods.Len() {
		method := methods.Get(i)
		m := &v1.TransactRequest{Ref: string(method.Name())}
		field := carrier(m.ProtoReflect(), "request", method.Input())
		if field == nil {
			assert.Equal(t, "Transact", string(method.Name()), "a stream takes every request but itself")
			continue
		}
		m.ProtoReflect().Set(field, m.ProtoReflect().NewField(field))
		all[string(method.Name())] = m
	}
	require.Len(t, all, methods.Len()-1)
	return all
}

// carrier is the field of a oneof that holds such a message.
func carrier(m protoreflect.Message, oneof protoreflect.Name, holds protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	fields := m.Descriptor().Oneofs().ByName(oneof).Fields()
	for i := range fields.Len() {
		if fields.Get(i).Message() == holds {
			return fields.Get(i)
		}
	}
	return nil
}

// Every request of a stream goes to the method of its own name, and its answer has a place.
func TestAStreamTakesEveryRequest(t *testing.T) {
	s := &service{}
	for name, m := range requests(t) {
		answer := &v1.TransactResponse{}
		method, _ := s.bound(m, answer)
		assert.Equal(t, name, method)
		output := v1.File_pursekeeper_v1_signer_proto.Services().ByName("SignerService").Methods().ByName(protoreflect.Name(name)).Output()
		assert.NotNil(t, carrier(answer.ProtoReflect(), "response", output), name)
	}
}

// A stream gives no right: whoever may not call a method may not send its request either, in each role.
func TestAStreamGivesNoRight(t *testing.T) {
	w := newWorld(t)
	rows := methodRows()
	for _, role := range policy.Roles() {
		stream := w.as(string(role)).open(connect.WithGRPC())
		asked := 0
		for name, m := range requests(t) {
			row, known := rows["/pursekeeper.v1.SignerService/"+name]
			require.True(t, known, name)
			allowed := false
			for _, r := range row.allowed {
				allowed = allowed || r == role
			}
			if allowed || !fillKeySet(m.ProtoReflect()) {
				continue
			}
			require.NoError(t, stream.Send(m))
			asked++
		}
		require.NoError(t, stream.CloseRequest())
		answers := collect(t, stream)
		require.Len(t, answers, asked)
		for name, answer := range answers {
			assert.Equal(t, "permission_denied", answer.GetError().GetCode(), "%s %s: %v", role, name, answer)
		}
	}
	assert.Empty(t, w.attempts())
}

// fillKeySet writes what a request names its key set by; it is false for a batch, whose items do.
func fillKeySet(m protoreflect.Message) bool {
	inner := m.Get(m.WhichOneof(m.Descriptor().Oneofs().ByName("request"))).Message()
	for name, value := range map[protoreflect.Name]string{
		"key_set": "demo", "transaction_id": demoID, "settlement_id": "demo/" + demoCard + "/EP/SETTLEMENT/0000000000000000",
	} {
		if field := inner.Descriptor().Fields().ByName(name); field != nil {
			value := value
			if id, found := strings.CutPrefix(string(inner.Descriptor().Name()), "Confirm"); found {
				value = strings.Replace(value, "LOAD", strings.ToUpper(strings.TrimSuffix(id, "Request")), 1)
			}
			inner.Set(field, protoreflect.ValueOfString(value))
			return true
		}
	}
	return false
}
