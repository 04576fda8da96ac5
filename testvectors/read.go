package testvectors

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
)

//go:embed data/published.json data/computed.json
var data embed.FS

// Embedded returns the files of vectors that the program carries, the independent one first.
func Embedded() ([]File, error) {
	names := []string{"published.json", "computed.json"}
	files := make([]File, 0, len(names))
	for _, name := range names {
		file, err := readEmbedded(name)
		if err != nil {
			return nil, fmt.Errorf("embedded %s: %w", name, err)
		}
		files = append(files, file)
	}
	return files, nil
}

func readEmbedded(name string) (File, error) {
	r, err := data.Open("data/" + name)
	if err != nil {
		return File{}, err
	}
	defer func() { _ = r.Close() }() // memory, read only
	file, err := Load(r)
	file.Name = name
	return file, err
}

// Load reads one file of vectors and checks all of it: a File that it returns has a vector, and each vector all that its
// operation needs. An error names the vector and the field.
func Load(r io.Reader) (File, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return File{}, fmt.Errorf("vector file: %w", err)
	}
	document, err := readDocument(bytes.NewReader(text))
	if err != nil {
		return File{}, err
	}
	top, ok := document.(object)
	if !ok {
		return File{}, fmt.Errorf("vector file: %s, expected an object", jsonType(document))
	}
	source, err := readSource(top)
	if err != nil {
		return File{}, fmt.Errorf("vector file: %w", err)
	}
	list, present, err := take[[]any](top, "vectors")
	if err == nil {
		err = top.finish()
	}
	switch {
	case err != nil:
		return File{}, fmt.Errorf("vector file: %w", err)
	case !present:
		return File{}, errors.New("vector file: vectors: missing")
	case len(list) == 0:
		return File{}, errors.New("vector file: no vector")
	}
	file, err := readVectors(list, source)
	file.SHA256 = sha256.Sum256(text)
	return file, err
}

func readVectors(list []any, source string) (File, error) {
	var file File
	seen := make(map[string]bool, len(list))
	for i, item := range list {
		fields, ok := item.(object)
		if !ok {
			return File{}, fmt.Errorf("vector %d: %s, expected an object", i+1, jsonType(item))
		}
		id, _, err := take[string](fields, "id")
		if err != nil {
			return File{}, fmt.Errorf("vector %d: %w", i+1, err)
		}
		switch {
		case id == "":
			return File{}, fmt.Errorf("vector %d: id: missing", i+1)
		case seen[id]:
			return File{}, fmt.Errorf("vector %q: id: repeated", id)
		}
		seen[id] = true
		v := Vector{ID: id, Source: source}
		if err := v.read(fields); err != nil {
			return File{}, fmt.Errorf("vector %q: %w", id, err)
		}
		file.Vectors = append(file.Vectors, v)
	}
	return file, nil
}

// read fills v from its fields.
func (v *Vector) read(fields object) error {
	source, err := readSource(fields)
	if err != nil {
		return err
	}
	if source != "" {
		v.Source = source
	}
	if v.Source == "" {
		return errors.New("source: missing, here and in the file")
	}
	if err := v.readNames(fields); err != nil {
		return err
	}
	if err := v.readKeys(fields); err != nil {
		return err
	}
	rawIn, _, err := take[object](fields, "in")
	if err != nil {
		return err
	}
	rawOut, _, err := take[object](fields, "out")
	if err != nil {
		return err
	}
	expect, given, err := take[string](fields, "expect")
	if err != nil {
		return err
	}
	if !given {
		expect = expectOK
	}
	if err := fields.finish(); err != nil {
		return err
	}
	in, err := readInputs(rawIn)
	if err != nil {
		return err
	}
	if v.task, err = newTask(v.Operation, in); err != nil {
		return err
	}
	if err := v.readOut(rawOut); err != nil {
		return err
	}
	return v.readExpect(expect)
}

func (v *Vector) readNames(fields object) error {
	operation, _, err := take[string](fields, "operation")
	if err != nil {
		return err
	}
	if v.Operation = Operation(operation); !slices.Contains(Operations(), v.Operation) {
		return fmt.Errorf("operation: %q, expected one of %v", operation, Operations())
	}
	algorithm, _, err := take[string](fields, "algorithm")
	if err != nil {
		return err
	}
	v.Algorithm, err = suite.Parse(algorithm)
	return err
}

// readKeys reads the keys. The factors are those of the masters, an empty list where a master is the card's key as it
// stands; beside card keys alone they are provenance.
func (v *Vector) readKeys(fields object) error {
	list, given, err := take[[]any](fields, "factors")
	if err != nil {
		return err
	}
	var factors []keyderive.Factor
	if given {
		factors = make([]keyderive.Factor, 0, len(list))
	}
	for i, item := range list {
		text, ok := item.(string)
		if !ok {
			return fmt.Errorf("factors[%d]: %s, expected a string", i, jsonType(item))
		}
		b, err := purse.ParseHex(fmt.Sprintf("factors[%d]", i), text, len(keyderive.Factor{}))
		if err != nil {
			return err
		}
		factors = append(factors, keyderive.Factor(b))
	}
	if v.main, err = readKey(fields, "masterKey", "cardKey", factors); err != nil {
		return err
	}
	v.tac, err = readKey(fields, "tacMasterKey", "tacCardKey", factors)
	if err == nil && v.Operation == OperationTAC && !v.tac.given() {
		v.tac = v.main // an operation that has the TAC key alone needs no other name for it
	}
	return err
}

// readKey reads a key given as a master or as a card key; as neither it is the zero value, as both an error.
func readKey(fields object, master, card string, factors []keyderive.Factor) (key givenKey, err error) {
	for _, form := range []struct {
		name    string
		factors []keyderive.Factor
	}{{master, factors}, {card, nil}} {
		text, present, err := take[string](fields, form.name)
		if err != nil {
			return givenKey{}, err
		}
		if !present {
			continue
		}
		if key.given() {
			return givenKey{}, fmt.Errorf("%s and %s: one or the other", master, card)
		}
		b, err := purse.ParseHex(form.name, text, suite.KeySize)
		if err != nil {
			return givenKey{}, err
		}
		if form.name == master && form.factors == nil {
			return givenKey{}, fmt.Errorf("factors: missing beside %s", master)
		}
		key = givenKey{b, form.factors}
	}
	return key, nil
}

// readOut reads what must come out, and refuses what the operation does not make or lacks an input or a key for.
func (v *Vector) readOut(fields object) error {
	v.Out = make(map[Value][]byte)
	for _, value := range Values() {
		text, present, err := take[string](fields, string(value))
		if err != nil {
			return fmt.Errorf("out.%w", err)
		}
		if !present {
			continue
		}
		b, err := purse.ParseHexRange(string(value), text, 0, -1)
		if err != nil {
			return fmt.Errorf("out.%w", err)
		}
		if err := value.checkLen(v.Algorithm, len(b)); err != nil {
			return fmt.Errorf("out.%s: %w", value, err)
		}
		v.Out[value] = b
	}
	if err := fields.finish(); err != nil {
		return fmt.Errorf("out.%w", err)
	}
	if len(v.Out) == 0 {
		return errors.New("out: no value")
	}
	for _, value := range v.expected() {
		if err := v.task.makes(value); err != nil {
			return fmt.Errorf("out.%s: %w", value, err)
		}
		if err := v.needKey(value); err != nil {
			return fmt.Errorf("out.%s: %w", value, err)
		}
	}
	return nil
}

// needKey refuses a value that the vector gives no key for.
func (v *Vector) needKey(value Value) error {
	switch {
	case v.fromTAC(value):
		if !v.tac.given() {
			return errors.New("tacMasterKey or tacCardKey: missing")
		}
	case v.Operation == OperationDiversify:
		if v.main.factors == nil {
			return errors.New("masterKey: missing")
		}
	case !v.main.given():
		return errors.New("masterKey or cardKey: missing")
	}
	return nil
}

// fromTAC reports whether the value comes of the TAC key: every TAC, and all of the operation tac.
func (v *Vector) fromTAC(value Value) bool { return value == TACValue || v.Operation == OperationTAC }

// expectOK is the expectation of a vector whose every value is right, and of one that names none.
const expectOK = "ok"

func (v *Vector) readExpect(expect string) error {
	if expect == expectOK {
		return nil
	}
	name, ok := strings.CutSuffix(expect, "-mismatch")
	value := Value(name)
	if !ok || !value.isMAC() {
		return fmt.Errorf("expect: %q, expected ok, mac1-mismatch, mac2-mismatch, mac3-mismatch or tac-mismatch", expect)
	}
	if v.Out[value] == nil {
		return fmt.Errorf("expect: %s, but out.%s is missing", expect, value)
	}
	v.Refused = value
	return nil
}

// expected are the values of Out, in the order of Values.
func (v *Vector) expected() []Value {
	return slices.DeleteFunc(Values(), func(value Value) bool { return v.Out[value] == nil })
}

// readSource reads where numbers come from: a string, or an object of the file's own making. Nothing in it is a vector's,
// so its fields are free; an empty one is none.
func readSource(fields object) (string, error) {
	raw, present := fields["source"]
	delete(fields, "source")
	if !present {
		return "", nil
	}
	switch source := raw.(type) {
	case string:
		if strings.TrimSpace(source) != "" {
			return source, nil
		}
	case object:
		if len(source) > 0 {
			text, err := json.Marshal(source)
			return string(text), err
		}
	default:
		return "", fmt.Errorf("source: %s, expected a string or an object", jsonType(raw))
	}
	return "", errors.New("source: empty")
}

// finish refuses the fields that nothing has taken.
func (o object) finish() error {
	if unknown := slices.Sorted(maps.Keys(o)); len(unknown) > 0 {
		return fmt.Errorf("%s: unknown field", unknown[0])
	}
	return nil
}
