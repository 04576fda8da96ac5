package testvectors

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/purse"
)

// inputs are a vector's `in`. Every field that is given is read and checked, whether or not the operation uses it; given
// tells a field that is left out from one of zeros.
type inputs struct {
	given map[string]bool

	random         purse.Random
	counter        purse.Counter
	terminalSerial purse.TSN
	balance        purse.Fen
	amount         purse.Fen
	tti            purse.TTI
	terminal       purse.Terminal
	date           purse.Date
	time           purse.Time
	oldLimit       purse.Limit
	newLimit       purse.Limit

	command   string
	challenge []byte
	pin       purse.PIN
	p1, p2    byte
	data      []byte
	permanent bool
	header    [4]byte
	key       []byte
	direction string
	profile   purse.Profile
}

// readInputs reads `in`, which may be left out; an unknown field is an error.
func readInputs(fields object) (*inputs, error) {
	in := &inputs{given: make(map[string]bool)}
	for name := range fields {
		in.given[name] = true
	}
	for _, f := range in.hexFields() {
		text, present, err := take[string](fields, f.name)
		if err != nil {
			return nil, named(f.name, err)
		}
		if !present {
			continue
		}
		if err := f.read(text); err != nil {
			return nil, named(f.name, err)
		}
	}
	if err := in.readWords(fields); err != nil {
		return nil, err
	}
	if err := fields.finish(); err != nil {
		return nil, fmt.Errorf("in.%w", err)
	}
	return in, nil
}

// readWords reads the fields that are not hex digits.
func (in *inputs) readWords(fields object) (err error) {
	if in.command, _, err = take[string](fields, "command"); err != nil {
		return named("command", err)
	}
	if in.direction, _, err = take[string](fields, "direction"); err != nil {
		return named("direction", err)
	}
	if in.permanent, _, err = take[bool](fields, "permanent"); err != nil {
		return named("permanent", err)
	}
	profile, _, err := take[object](fields, "profile")
	if err != nil {
		return named("profile", err)
	}
	if in.profile, err = readProfile(profile); err != nil {
		return named("profile", err)
	}
	return nil
}

// hexField is one field of hex digits and where it goes.
type hexField struct {
	name string
	read func(text string) error
}

func (in *inputs) hexFields() []hexField {
	return []hexField{
		field("random", &in.random, func(text string) (purse.Random, error) { return purse.ParseRandom("random", text) }),
		field("counter", &in.counter, purse.ParseCounter),
		field("terminalSerial", &in.terminalSerial, purse.ParseTSN),
		field("balance", &in.balance, func(text string) (purse.Fen, error) { return purse.ParseFen("balance", text) }),
		field("amount", &in.amount, func(text string) (purse.Fen, error) { return purse.ParseFen("amount", text) }),
		field("type", &in.tti, purse.ParseTTI),
		{"terminal", func(text string) error { return fill("terminal", in.terminal[:], text) }},
		field("date", &in.date, purse.ParseDate),
		field("time", &in.time, purse.ParseTime),
		field("oldLimit", &in.oldLimit, func(text string) (purse.Limit, error) { return purse.ParseLimit("oldLimit", text) }),
		field("newLimit", &in.newLimit, func(text string) (purse.Limit, error) { return purse.ParseLimit("newLimit", text) }),
		field("challenge", &in.challenge, bytesOf("challenge", 4, 8)),
		field("pin", &in.pin, readPIN),
		field("p1", &in.p1, byteOf("p1")),
		field("p2", &in.p2, byteOf("p2")),
		field("data", &in.data, bytesOf("data", 1, 255)),
		{"header", func(text string) error { return fill("header", in.header[:], text) }},
		field("key", &in.key, bytesOf("key", suite.KeySize, suite.KeySize)),
	}
}

func field[T any](name string, to *T, parse func(string) (T, error)) hexField {
	return hexField{name, func(text string) (err error) {
		*to, err = parse(text)
		return err
	}}
}

// fill reads exactly as many bytes as to has.
func fill(name string, to []byte, text string) error {
	b, err := purse.ParseHex(name, text, len(to))
	if err != nil {
		return err
	}
	copy(to, b)
	return nil
}

func bytesOf(name string, least, most int) func(string) ([]byte, error) {
	return func(text string) ([]byte, error) { return purse.ParseHexRange(name, text, least, most) }
}

func byteOf(name string) func(string) (byte, error) {
	return func(text string) (byte, error) {
		b, err := purse.ParseHex(name, text, 1)
		if err != nil {
			return 0, err
		}
		return b[0], nil
	}
}

// readPIN reads a PIN as its packed bytes, two digits each, or as an odd number of digits.
func readPIN(text string) (purse.PIN, error) {
	digits := strings.ReplaceAll(text, " ", "")
	if len(digits)%2 != 0 {
		return purse.ParsePIN(digits)
	}
	packed, err := purse.ParseHexRange("pin", digits, 0, -1)
	if err != nil {
		return purse.PIN{}, err
	}
	return purse.ParsePackedPIN(packed)
}

// need names the first of the fields that is left out.
func (in *inputs) need(fields ...string) error {
	for _, name := range fields {
		if !in.given[name] {
			return fmt.Errorf("in.%s: missing", name)
		}
	}
	return nil
}

// needType refuses a type that is not one of the operation's. An operation of one type may leave it out.
func (in *inputs) needType(types ...purse.TTI) error {
	if !in.given["type"] && len(types) == 1 {
		in.tti = types[0]
		return nil
	}
	if err := in.need("type"); err != nil {
		return err
	}
	if !slices.Contains(types, in.tti) {
		return fmt.Errorf("in.type: %v, expected one of %v", in.tti, types)
	}
	return nil
}

// named puts the path of a field before an error about it, once.
func named(path string, err error) error {
	if strings.HasPrefix(err.Error(), path+":") {
		return fmt.Errorf("in.%w", err)
	}
	return fmt.Errorf("in.%s: %w", path, err)
}
