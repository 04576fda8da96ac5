package ceremony

import (
	"fmt"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/deskey"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// group is how many digits are written together.
const group = 4

// parseComponent reads a component as it was typed: hex digits of either case, with spaces and hyphens between them as one likes. The errors
// name places and never a digit. The caller wipes the component.
func (p *Plan) parseComponent(typed secret.Bytes) (component secret.Bytes, err error) {
	size := p.Material.Size()
	component = secret.New(size)
	out, digits := component.Reveal("to read a component into it"), 0
	for i, c := range typed.Reveal("to read a component") {
		nibble, ok := hexDigit(c)
		switch {
		case c == ' ' || c == '-':
			continue
		case !ok:
			component.Wipe()
			return component, fmt.Errorf("character %d is no hex digit", i+1)
		case digits < 2*size:
			out[digits/2] |= nibble << (4 * (1 - digits%2))
		}
		digits++
	}
	switch {
	case digits != 2*size:
		err = fmt.Errorf("%d hex digits, expected %d", digits, 2*size)
	case p.Material.nothing(out):
		err = fmt.Errorf("all digits are zero, or nothing but parity: the other custodians alone would have the key")
	case p.OddParity:
		err = parityError(deskey.EvenBytes(out))
	}
	if err != nil {
		component.Wipe()
	}
	return component, err
}

func hexDigit(c byte) (nibble byte, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// parityError names the digits whose byte has even parity.
func parityError(places []int) error {
	if len(places) == 0 {
		return nil
	}
	var list []string
	for _, place := range places {
		list = append(list, fmt.Sprintf("%d-%d", 2*place-1, 2*place))
	}
	return fmt.Errorf("parity is wrong in the digits %s", strings.Join(list, ", "))
}

// written is a component as it is shown: groups of four upper-case digits, one line. The caller wipes it.
func written(component secret.Bytes) secret.Bytes {
	const digits = "0123456789ABCDEF"
	raw := component.Reveal("to write it for its custodian")
	text := secret.New(2*len(raw) + (2*len(raw)-1)/group + 1)
	out, at := text.Reveal("the same"), 0
	for i, b := range raw {
		if i > 0 && 2*i%group == 0 {
			out[at] = ' '
			at++
		}
		out[at], out[at+1] = digits[b>>4], digits[b&0xF]
		at += 2
	}
	out[at] = '\n'
	return text
}
