package testvectors

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/pursekeeper/pursekeeper/purse"
)

// parameter is one row of EPURSE.md §9 under the names that a vector may use: "updateData, and any other parameter of
// EPURSE §9 in camel case". §9 names parameters and values in words, so both the words and the profile file's own names are
// read; two names of one parameter in one vector are an error.
type parameter struct {
	field  string              // the field of a profile file
	names  []string            // §9's own words, in camel case
	values map[string][]string // the file's values, and §9's words for them without spaces and case; nil passes any
}

func parameters() []parameter {
	return []parameter{
		{"smChallenge", []string{"secureMessagingChallenge", "challenge", "challengeLength"}, map[string][]string{
			"4": {"4bytesandzeros", "4bytes", "04"}, "8": {"8bytes", "08"},
		}},
		{"encryptionPadding", []string{"encryptionPaddingOfAWholeBlock", "padding"}, map[string][]string{"none": nil, "always": nil}},
		{"updateData", []string{"updateBinaryRecordData"}, map[string][]string{
			"plain": {"plainandmac"}, "encrypted": {"encryptedandmac"},
		}},
		{"reloadPinMac", []string{"reloadPinMacOver", "reloadPINMAC", "reloadPINMACOver"}, map[string][]string{
			"pin": nil, "headerAndPin": {"headerpin"},
		}},
		{"pinUnblock", []string{"PINUnblock"}, map[string][]string{
			"encrypted": {"84240001encrypted"}, "keyId": {"keyid", "p1keyidp200", "p1keyid"}, "macOnly": {"maconly"},
		}},
		{"pinUnblockKeyId", []string{"pinUnblockKeyID"}, nil},
		{"debitForPurchaseP1", nil, map[string][]string{
			"01": {"1"}, "byType": {"bytype", "02plainand01compound", "02"},
		}},
		{"creditForLoadP1P2", nil, map[string][]string{"0000": nil, "0002": nil}},
		{"applicationBlockP1", nil, map[string][]string{
			"00": {"0"}, "byAlgorithm": {"byalgorithm", "00fordesand01forsm4", "01", "1"},
		}},
		{"unloadPurse", nil, map[string][]string{"ED": {"ed"}, "EP": {"ep"}}},
		{"keyIndex", []string{"ki", "KI"}, nil},
		{"externalAuthentication", []string{"sm4ExternalAuthentication"}, map[string][]string{
			"folded": {"foldedto8", "8"}, "whole": {"whole16", "16"},
		}},
		{"algByte", []string{"ALGByte", "alg"}, nil},
		{"issuerFactors", nil, nil},
		{"writeKey", nil, nil},
	}
}

// readProfile is the profile pboc-ep, the defaults of EPURSE.md §9, with the parameters of fields in their place. It takes
// every field, and an unknown one is an error.
func readProfile(fields object) (purse.Profile, error) {
	profile, err := purse.ShippedProfile(purse.ProfilePBOC)
	if err != nil || len(fields) == 0 {
		return profile, err
	}
	changed := make(object)
	for _, p := range parameters() {
		if err := p.take(fields, changed); err != nil {
			return purse.Profile{}, err
		}
	}
	if err := fields.finish(); err != nil {
		return purse.Profile{}, err
	}
	data, err := json.Marshal(changed)
	if err != nil {
		return purse.Profile{}, err
	}
	return profile.With(data)
}

// take moves the parameter from fields to changed, in the words of a profile file.
func (p parameter) take(fields, changed object) error {
	for _, name := range append([]string{p.field}, p.names...) {
		raw, present := fields[name]
		if !present {
			continue
		}
		if _, twice := changed[p.field]; twice {
			return fmt.Errorf("%s: given twice, under two names", name)
		}
		delete(fields, name)
		changed[p.field] = p.canonical(raw)
	}
	return nil
}

// canonical is the profile file's value for raw; what it does not know goes on as it is, to be refused by the profile.
func (p parameter) canonical(raw any) any {
	switch p.field {
	case "algByte":
		return algBytes(raw)
	case "issuerFactors":
		return issuerFactors(raw)
	}
	text := ""
	switch value := raw.(type) {
	case string:
		text = value
	case json.Number:
		text = value.String()
	default:
		return raw
	}
	if p.field == "keyIndex" {
		return keyIndex(raw)
	}
	words := strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return unicode.ToLower(c)
		}
		return -1
	}, text)
	for value, aliases := range p.values {
		if text == value || words == strings.ToLower(value) || slices.Contains(aliases, words) {
			return p.typed(value)
		}
	}
	return raw
}

// algBytes is the list of a profile file, which is empty for "any".
func algBytes(raw any) any {
	if raw == "any" {
		return []any{}
	}
	return raw
}

// issuerFactors is the form of a profile file, from the words and the list of EPURSE.md §9 as well.
func issuerFactors(raw any) any {
	switch value := raw.(type) {
	case string:
		return object{"from": value}
	case []any:
		return object{"from": "list", "list": value}
	}
	return raw
}

// keyIndex is KI as the number that a profile file has, from a number or from two hex digits.
func keyIndex(raw any) any {
	if text, ok := raw.(string); ok {
		if b, err := purse.ParseHex("keyIndex", text, 1); err == nil {
			return int(b[0])
		}
	}
	return raw
}

// typed writes the parameter that a profile file has as a number as one.
func (p parameter) typed(value string) any {
	if p.field == "smChallenge" {
		return json.Number(value)
	}
	return value
}
