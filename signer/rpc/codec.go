package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
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
	text, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer // protojson puts spaces in or not, differently in each build
	err = json.Compact(&compact, text)
	return compact.Bytes(), err
}

func (strictJSON) Unmarshal(data []byte, message any) error {
	m, err := asProto(message)
	if err != nil {
		return err
	}
	if err := countJSON(m, data); err != nil {
		return err
	}
	if err := protojson.Unmarshal(data, m); err != nil {
		return jsonError(err)
	}
	return refuseUnknown(m.ProtoReflect())
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
	if err := countProto(m, data); err != nil {
		return err
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return err
	}
	return refuseUnknown(m.ProtoReflect())
}

// refuseUnknown looks for fields and enum numbers that the API does not have, in a message and in the messages that it holds.
func refuseUnknown(m protoreflect.Message) (err error) {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		number, _, _ := protowire.ConsumeTag(unknown)
		return fmt.Errorf("%s: unknown field %d", m.Descriptor().Name(), number)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil || f.MapValue().Enum() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					err = refuseUnknownValue(f.MapValue(), v)
					return err == nil
				})
			}
		case f.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = refuseUnknownValue(f, v.List().Get(i))
			}
		default:
			err = refuseUnknownValue(f, v)
		}
		return err == nil
	})
	return err
}

// refuseUnknownValue judges one value of a field. An enum number that is dropped in silence would become "left out".
func refuseUnknownValue(f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch {
	case f.Message() != nil:
		return refuseUnknown(v.Message())
	case f.Enum() != nil && f.Enum().Values().ByNumber(v.Enum()) == nil:
		return fmt.Errorf("%s: %d is not a number of %s", f.JSONName(), v.Enum(), f.Enum().Name())
	}
	return nil
}

// What protojson says of malformed JSON, without the values that it quotes.
var (
	jsonPlace = regexp.MustCompile(`line \d+:\d+`)
	jsonName  = regexp.MustCompile(`(unknown|duplicate) field "([\w.-]{1,64})"`)
	jsonValue = regexp.MustCompile(`invalid value for (\w+) field (\w+)`)
)

// jsonError names the field and the place of a fault, and never the value: it may be a MAC or a card number, and what an
// error says ends up in the logs of callers.
func jsonError(err error) error {
	text, place := err.Error(), ""
	if found := jsonPlace.FindString(text); found != "" {
		place = " (" + found + ")"
	}
	if found := jsonName.FindStringSubmatch(text); found != nil {
		return fmt.Errorf("%s: %s field%s", found[2], found[1], place)
	}
	if found := jsonValue.FindStringSubmatch(text); found != nil {
		return fmt.Errorf("%s: not a value of type %s%s", found[2], found[1], place)
	}
	return fmt.Errorf("malformed JSON%s", place)
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
