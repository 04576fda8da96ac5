// Package conformance writes what a replay of test vectors showed as a report that is signed like a checkpoint of the record: on which
// token, with which mechanisms and boundaries, by which versions, and each vector's result.
//
// # The report
//
//	report    one JSON object, in one encoding: Encode writes it, and a reader encodes again what it read and compares
//	note      a signed note (C2SP signed-note) of the token's Ed25519 key over three lines:
//
//	              NAME of the key
//	              vectors-report v1
//	              SHA-256 of the report's bytes, 64 small hex digits
//
// No checkpoint has such a second line, so neither is taken for the other.
//
//	out.json  {"report":REPORT,"note":"…"} and a line end
//	out.html  one page that a person reads, with the report and the note in it: Open renders it again of the report and compares, so
//	          that it shows what was signed and nothing else
package conformance

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Version is the version of the reports that this package writes.
const Version = 1

// Report is what was run, on what, and what came of it.
type Report struct {
	Version    int         `json:"v"`
	Time       time.Time   `json:"time"` // UTC, of the end
	Program    Program     `json:"program"`
	Token      *Token      `json:"token,omitempty"` // nil when nothing was run on one
	Mechanisms []Mechanism `json:"mechanisms,omitempty"`
	Boundaries []Boundary  `json:"boundaries,omitempty"`
	Files      []File      `json:"files"`
	Operations []Operation `json:"operations"`
	Failures   []Failure   `json:"failures,omitempty"`
	Vectors    []Vector    `json:"vectors"`
}

// Program is what ran the vectors.
type Program struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of its source; with "+changes" when there were any
	Go       string `json:"go"`
}

// Token is what the token says of itself.
type Token struct {
	Label          string `json:"label"`
	Manufacturer   string `json:"manufacturer"`
	Model          string `json:"model"`
	Serial         string `json:"serial"`
	Hardware       string `json:"hardware"`
	Firmware       string `json:"firmware"`
	Slot           string `json:"slot"`
	Library        string `json:"library"`
	LibraryMaker   string `json:"libraryMaker"`
	LibraryVersion string `json:"libraryVersion"`
	Cryptoki       string `json:"cryptoki"`
	Profile        string `json:"profile"`
	ProfileTested  bool   `json:"profileTested"` // the project's tests passed on such a token
	ThrowAway      bool   `json:"throwAway"`     // it was made for this replay, and its key with it
}

// Mechanism is the result of a known-answer test: PASSED, UNSUPPORTED or FAILED.
type Mechanism struct {
	Name   string `json:"name"`
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"`
}

// Boundary is the strictest at which the token can have keys of a kind.
type Boundary struct {
	Algorithm string `json:"algorithm"`
	Kind      string `json:"kind"`
	Boundary  string `json:"boundary"`
}

// File is one file of vectors.
type File struct {
	Name    string `json:"name"`
	SHA256  string `json:"sha256"`
	Vectors int    `json:"vectors"`
}

// Counts is what became of values.
type Counts struct {
	Compared int `json:"compared"`
	ByEffect int `json:"byEffect"`
	Refused  int `json:"refused"`
	Failed   int `json:"failed"`
}

// Values is their number.
func (c Counts) Values() int { return c.Compared + c.ByEffect + c.Refused + c.Failed }

// Operation sums the vectors of one operation and algorithm on one target.
type Operation struct {
	Operation string `json:"operation"`
	Algorithm string `json:"algorithm"`
	Target    string `json:"target"`
	Vectors   int    `json:"vectors"`
	Counts
}

// Vector is one vector's result on one target.
type Vector struct {
	ID        string `json:"id"`
	File      string `json:"file"`
	Source    string `json:"source,omitempty"`
	Operation string `json:"operation"`
	Algorithm string `json:"algorithm"`
	Target    string `json:"target"`
	Counts
}

// Failure is one value that did not hold. Values of test vectors are public.
type Failure struct {
	ID      string `json:"id"`
	Target  string `json:"target"`
	Value   string `json:"value"`
	Problem string `json:"problem"`
	Want    string `json:"want"`
	Got     string `json:"got,omitempty"`
}

// Total sums all operations.
func (r Report) Total() (c Counts) {
	for _, o := range r.Operations {
		c.Compared += o.Compared
		c.ByEffect += o.ByEffect
		c.Refused += o.Refused
		c.Failed += o.Failed
	}
	return c
}

// Holds reports whether there was something to compare and all of it held.
func (r Report) Holds() bool {
	t := r.Total()
	return t.Values() > 0 && t.Failed == 0 && len(r.Failures) == 0
}

// Encode writes the report canonically.
func (r Report) Encode() ([]byte, error) {
	r.Version = Version
	r.Time = r.Time.UTC().Truncate(time.Second)
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return text, nil
}

// decode reads what Encode wrote, and nothing else.
func decode(text []byte) (r Report, err error) {
	if err := strictly(text, &r); err != nil {
		return r, fmt.Errorf("report: %w", err)
	}
	if r.Version != Version {
		return r, fmt.Errorf("report: version %d, expected %d", r.Version, Version)
	}
	if again, err := r.Encode(); err != nil || !bytes.Equal(again, text) {
		return r, errors.New("report: not written as reports are")
	}
	return r, nil
}

func strictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something is behind it")
	}
	return nil
}

// Signed is a report with its note.
type Signed struct {
	report Report
	text   []byte // encoded
	note   string
}

const noteKind = "vectors-report v1"

func noteText(name string, report []byte) string {
	sum := sha256.Sum256(report)
	return fmt.Sprintf("%s\n%s\n%s\n", name, noteKind, hex.EncodeToString(sum[:]))
}

// Sign signs the report. signer is a key that the token keeps.
func Sign(r Report, signer note.Signer) (Signed, error) {
	text, err := r.Encode()
	if err != nil {
		return Signed{}, err
	}
	signed, err := note.Sign(&note.Note{Text: noteText(signer.Name(), text)}, signer)
	if err != nil {
		return Signed{}, fmt.Errorf("sign the report: %w", err)
	}
	r, err = decode(text) // as whoever opens it will have it
	return Signed{report: r, text: text, note: string(signed)}, err
}

// file is out.json.
type file struct {
	Report json.RawMessage `json:"report"`
	Note   string          `json:"note"`
}

// JSON is the report as a file for programs.
func (s Signed) JSON() ([]byte, error) {
	text, err := json.Marshal(file{s.text, s.note})
	return append(text, '\n'), err
}

// Errors of Open, beside those of the form.
var (
	// ErrSignature: the note is not of the key, or of another report.
	ErrSignature = errors.New("the report is not what the key signed")
	// ErrPage: the page does not show what was signed.
	ErrPage = errors.New("the page does not show what was signed, as this version of the program shows it")
)

// Open reads a report of either form and verifies that the key signed it. Of a page it verifies too that it shows exactly the signed
// report.
func Open(content []byte, key note.Verifier) (Report, error) {
	s := Signed{}
	page := !bytes.HasPrefix(content, []byte("{"))
	var err error
	if page {
		s.text, s.note, err = embedded(content)
	} else {
		s.text, s.note, err = split(content)
	}
	if err != nil {
		return Report{}, err
	}
	if s.report, err = decode(s.text); err != nil {
		return Report{}, err
	}
	opened, err := note.Open([]byte(s.note), note.VerifierList(key))
	if err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if opened.Text != noteText(key.Name(), s.text) {
		return Report{}, fmt.Errorf("%w: the note is of another text", ErrSignature)
	}
	if page {
		if again, err := s.Page(); err != nil || !bytes.Equal(again, content) {
			return Report{}, errors.Join(ErrPage, err)
		}
	} else if again, err := s.JSON(); err != nil || !bytes.Equal(again, content) {
		return Report{}, errors.Join(errors.New("report file: not written as report files are"), err)
	}
	return s.report, nil
}

func split(content []byte) (text []byte, signed string, err error) {
	var f file
	if err := strictly(content, &f); err != nil {
		return nil, "", fmt.Errorf("report file: %w", err)
	}
	return f.Report, f.Note, nil
}
