package testvectors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// A file larger or deeper than these is not a file of vectors.
const (
	maxFileBytes = 64 << 20
	maxDepth     = 16
)

// object is a JSON object whose every field is read once by name; what is left over at the end is unknown.
type object map[string]any

// readDocument reads one JSON document into object, []any, string, bool, json.Number and nil. encoding/json alone would
// take the second of two equal names, match names of another case, and leave what follows the document unread.
func readDocument(r io.Reader) (any, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read vectors: %w", err)
	case len(data) > maxFileBytes:
		return nil, fmt.Errorf("vector file: over %d bytes", maxFileBytes)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("vector file: empty")
	case !utf8.Valid(data):
		return nil, errors.New("vector file: not UTF-8")
	}
	if err := json.Unmarshal(data, new(json.RawMessage)); err != nil { // the syntax, and that nothing follows
		return nil, syntaxError(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	value, err := readValue(decoder, maxDepth)
	if err != nil {
		return nil, fmt.Errorf("vector file: byte %d: %w", decoder.InputOffset(), err)
	}
	return value, nil
}

func syntaxError(err error) error {
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return fmt.Errorf("vector file: byte %d: %w", syntax.Offset, err)
	}
	return fmt.Errorf("vector file: %w", err)
}

func readValue(decoder *json.Decoder, depth int) (any, error) {
	if depth == 0 {
		return nil, fmt.Errorf("nested over %d levels", maxDepth)
	}
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return readObject(decoder, depth-1)
	case json.Delim('['):
		return readArray(decoder, depth-1)
	}
	return token, nil
}

func readObject(decoder *json.Decoder, depth int) (object, error) {
	o := make(object)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, fmt.Errorf("%v is no name of a field", token)
		}
		if _, repeated := o[name]; repeated {
			return nil, fmt.Errorf("field %q: repeated", name)
		}
		if o[name], err = readValue(decoder, depth); err != nil {
			return nil, err
		}
	}
	_, err := decoder.Token()
	return o, err
}

func readArray(decoder *json.Decoder, depth int) ([]any, error) {
	values := []any{}
	for decoder.More() {
		value, err := readValue(decoder, depth)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	_, err := decoder.Token()
	return values, err
}

// take removes a field and returns it as a T; a missing one is the zero value and false, one of another type an error.
func take[T any](o object, name string) (value T, present bool, err error) {
	raw, present := o[name]
	if !present {
		return value, false, nil
	}
	delete(o, name)
	value, ok := raw.(T)
	if !ok {
		return value, true, fmt.Errorf("%s: %s, expected %s", name, jsonType(raw), jsonType(value))
	}
	return value, true, nil
}

func jsonType(value any) string {
	switch value.(type) {
	case object:
		return "an object"
	case []any:
		return "an array"
	case string:
		return "a string"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	}
	return "null"
}
