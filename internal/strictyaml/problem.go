package strictyaml

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	Field  string // as in "keySets[0].keys[1].kcv"; empty for the whole
	Line   int    // in the file; 0 where it is not known
	Reason string
}

// Invalid is the error of a file: all that is wrong with it, in the order of the file's fields.
type Invalid struct {
	Name     string // of the file
	Problems []Problem
}

// Error has one line for each problem, as compilers write them.
func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		place := e.Name
		if p.Line > 0 {
			place = fmt.Sprintf("%s:%d", e.Name, p.Line)
		}
		if p.Field != "" {
			place += ": " + p.Field
		}
		lines[i] = place + ": " + p.Reason
	}
	return strings.Join(lines, "\n")
}

// Read reads the file of that name into the struct that into points to, and returns what says on which line a field is. The error is
// an *Invalid where the file could be read.
func Read(path string, into any) (Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Document{}, err
	}
	doc, err := Parse(data)
	if err != nil {
		return doc, &Invalid{path, []Problem{Syntax(err)}}
	}
	if problems := doc.Decode(into); problems != nil {
		return doc, &Invalid{path, problems}
	}
	return doc, nil
}

// Locate writes the file's name and the lines into the problems of an *Invalid that err holds, and returns err.
func (d Document) Locate(path string, err error) error {
	var invalid *Invalid
	if errors.As(err, &invalid) {
		invalid.Name = path
		for i, p := range invalid.Problems {
			invalid.Problems[i].Line = d.Line(p.Field)
		}
	}
	return err
}
