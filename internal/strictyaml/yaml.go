// Package strictyaml reads a YAML file that a person wrote as one struct, strictly: an unknown field, a repeated one, or a number that
// would be read as another than is written is a problem, and every problem has its line. It shows no text of the file.
package strictyaml

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
)

// Document is a parsed YAML file: it decodes strictly, and says on which line a field is.
type Document struct {
	file *ast.File
	body ast.Node
}

// Parse refuses all but one document, a key that is written twice, and what is nested deeper than a person writes.
func Parse(data []byte) (_ Document, err error) {
	defer protect(&err)
	tokens := lexer.Tokenize(string(data))
	if err := deep(tokens); err != nil {
		return Document{}, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return Document{}, err
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return Document{}, errors.New("expected one document with at least one field")
	}
	if _, ok := file.Docs[0].Body.(ast.MapNode); !ok {
		return Document{}, errors.New("expected fields with their values")
	}
	return Document{file, file.Docs[0].Body}, nil
}

// Decode fills the struct that into points to, by its yaml tags. The problems are all unknown fields and all numbers that YAML reads as something else than is written,
// tags, anchors and aliases, and the first value that has the wrong type.
func (d Document) Decode(into any) []Problem {
	problems, err := d.decode(into)
	if err != nil {
		return []Problem{Syntax(err)}
	}
	return problems
}

func (d Document) decode(into any) (problems []Problem, err error) {
	defer protect(&err)
	problems = unknown(d.body, reflect.TypeOf(into), "")
	ast.Walk(numbers{&problems}, d.body)
	if len(problems) > 0 {
		return problems, nil
	}
	return nil, yaml.NodeToValue(d.body, into, yaml.Strict())
}

// Syntax is an error of the YAML library, without the excerpt of the file that it likes to show.
func Syntax(err error) Problem {
	var located yaml.Error
	if !errors.As(err, &located) {
		return Problem{Reason: err.Error()}
	}
	p := Problem{Reason: located.GetMessage()}
	if token := located.GetToken(); token != nil && token.Position != nil {
		p.Line = token.Position.Line
	}
	return p
}

// Line is the line of a field, or of the nearest field around it that is written; 0 for the whole file.
func (d Document) Line(field string) int {
	for field != "" {
		if path, err := yaml.PathString("$." + field); err == nil {
			if node, err := path.FilterFile(d.file); err == nil && node != nil {
				return node.GetToken().Position.Line
			}
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return 0
}

// unknown lists the fields under node that a value of type t has not.
func unknown(node ast.Node, t reflect.Type, field string) (problems []Problem) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch node := node.(type) {
	case *ast.SequenceNode:
		if t.Kind() != reflect.Slice {
			return nil // a wrong type is told by the decoder
		}
		for i, value := range node.Values {
			problems = append(problems, unknown(value, t.Elem(), fmt.Sprintf("%s[%d]", field, i))...)
		}
	case ast.MapNode:
		if t.Kind() != reflect.Struct {
			return nil
		}
		fields := fieldTypes(t)
		for pairs := node.MapRange(); pairs.Next(); {
			name := pairs.Key().GetToken().Value
			below, known := fields[name]
			if !known {
				problems = append(problems, Problem{join(field, name), pairs.Key().GetToken().Position.Line, "unknown field"})
				continue
			}
			problems = append(problems, unknown(pairs.Value(), below, join(field, name))...)
		}
	}
	return problems
}

func fieldTypes(t reflect.Type) map[string]reflect.Type {
	types := make(map[string]reflect.Type, t.NumField())
	for field := range t.Fields() {
		if field.Anonymous {
			maps.Copy(types, fieldTypes(field.Type)) // inline
			continue
		}
		types[field.Tag.Get("yaml")] = field.Type
	}
	return types
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// numbers finds what is not written as what it is read as. Tags, anchors and aliases make a value of another one that stands elsewhere, or of
// another kind. Of numbers, 012345 is octal to YAML, 1_2 is twelve, and 1.5 would
// lose its half. In a configuration full of hex digits each is a text whose quotes were forgotten. It is not repeated in the
// problem: it may be a PIN in the wrong place.
type numbers struct{ problems *[]Problem }

var plain = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

func (v numbers) Visit(node ast.Node) ast.Visitor {
	switch node.(type) {
	case *ast.TagNode, *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		*v.problems = append(*v.problems, Problem{"", node.GetToken().Position.Line, "has a tag, an anchor or an alias: write the value out"})
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		token := node.GetToken()
		if !plain.MatchString(token.Value) {
			field := strings.TrimPrefix(node.GetPath(), "$.")
			*v.problems = append(*v.problems, Problem{field, token.Position.Line, "would be read as another number than is written: write it in quotes"})
		}
	}
	return v
}
