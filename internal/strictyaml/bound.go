package strictyaml

import (
	"fmt"

	"github.com/goccy/go-yaml/token"
)

// mostDeep bounds how deep a document is nested: the library's work on what is deeper grows with the square of its depth, to seconds.
const mostDeep = 50

// deep refuses what is nested too deep, in brackets or by "- - -" in one line. What is nested by indentation alone is bounded by its length.
func deep(tokens token.Tokens) error {
	brackets, entries, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			entries, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets = max(brackets-1, 0)
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		}
		if brackets > mostDeep || entries > mostDeep {
			return fmt.Errorf("nested more than %d deep in line %d", mostDeep, line)
		}
	}
	return nil
}

// protect makes an error of a panic of the library, which some texts cause. It is deferred.
func protect(err *error) {
	if bug := recover(); bug != nil {
		*err = fmt.Errorf("cannot be read as YAML: %v", bug)
	}
}
