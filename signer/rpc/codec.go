package rpc

import (
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The codecs refuse what they do not know. A misspelt "time" that is dropped in silence would become the signer's clock, in
// JSON and in binary alike.

// strictJSON replaces connect's own codec of the same name, which drops unknown fields.
type strictJSON struct{ name string }

func (c strictJSON) Name() string { return c.name }

func (strictJSON) Marshal(message any) ([]byte, error) {
	m, err := asProto(message)
	if err != nil {
		return nil, err
	}
	return protojson.Marshal(m)
}

func (strictJSON) Unmarshal(data []byte, message any) error {
	m, err := asProto(message)
	if err != nil {
		return err
	}
	return protojson.Unmarshal(data, m)
}

// strictProto replaces connect's own codec of the same name, which keeps unknown fields unread.
type strictProto struct{}

func (strictProto) Name() string { return "proto" }

func (strictProto) Marshal(message any) ([]byte, error) {
	m, err := asProto(message)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(m)
}

func (strictProto) Unmarshal(data []byte, message any) error {
	m, err := asProto(message)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return err
	}
	return refuseUnknown(m.ProtoReflect())
}

// refuseUnknown looks for unknown fields in a message and in the messages that it holds.
func refuseUnknown(m protoreflect.Message) (err error) {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		return fmt.Errorf("%s: unknown field in the message", m.Descriptor().Name())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil || f.IsMap() {
			return true
		}
		if !f.IsList() {
			err = refuseUnknown(v.Message())
			return err == nil
		}
		for i := range v.List().Len() {
			if err = refuseUnknown(v.List().Get(i).Message()); err != nil {
				return false
			}
		}
		return true
	})
	return err
}

func asProto(message any) (proto.Message, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("bug: %T is not a protocol buffer message", message)
	}
	return m, nil
}

func strictCodecs() connect.Option {
	return connect.WithOptions(
		connect.WithCodec(strictProto{}),
		connect.WithCodec(strictJSON{"json"}),
		connect.WithCodec(strictJSON{"json; charset=utf-8"}),
	)
}
