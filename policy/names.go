package policy

import (
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// names refuses the entities and entity types that are not there: the library takes any id of a type, and any type after "is".
func (c *checker) names() {
	for _, e := range c.entities() {
		if problem := c.unknown(e); problem != "" {
			c.refuse(c.at(c.words.entity(string(e.Type), string(e.ID))), "%s", problem)
		}
		if set, _, _ := strings.Cut(string(e.ID), "/"); e.Type == keySetType || e.Type == keyType {
			at := c.at(c.words.entity(string(e.Type), string(e.ID)))
			c.keySets = append(c.keySets, named{set, at.line, at.column})
		}
	}
	for _, kind := range c.namedTypes() {
		if _, ok := theSchema().Entities[kind]; !ok {
			c.refuse(c.at(c.words.entity(string(kind), "")), "unknown entity type %s: expected one of %s", kind, entityTypes())
		}
	}
	if eq, ok := c.syntax.Action.(ast.ScopeTypeEq); ok {
		c.group(eq.Entity)
	}
}

// groupAlone refuses an action of the request that is compared with a group.
func (c *checker) groupAlone(variable, literal ast.IsNode) {
	v, isVariable := variable.(ast.NodeTypeVariable)
	value, isValue := literal.(ast.NodeValue)
	if !isVariable || v.Name != "action" || !isValue {
		return
	}
	if e, ok := value.Value.(types.EntityUID); ok {
		c.group(e)
	}
}

// group refuses the action that stands for all parts of an operation where only one of the parts can be meant.
func (c *checker) group(e types.EntityUID) {
	if _, ok := parts[Operation(e.ID)]; ok && e.Type == actionType {
		c.refuse(c.at(c.words.entity(string(e.Type), string(e.ID))), "%v is a group: say \"action in %v\", or name what is in it", e, e)
	}
}

func entityTypes() string {
	var names []string
	for name := range theSchema().Entities {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// unknown says why an entity cannot be meant; "" is none.
func (c *checker) unknown(e types.EntityUID) string {
	id := string(e.ID)
	switch e.Type {
	case actionType:
		if _, ok := theSchema().Actions[e]; !ok {
			return fmt.Sprintf("unknown action %v", e)
		}
	case clientType:
		if !c.clients[id] {
			return fmt.Sprintf("unknown client %v: it is not in the list of clients", e)
		}
	case roleType:
		if !slices.Contains(Roles(), Role(id)) {
			return fmt.Sprintf("unknown role %v: expected one of %v", e, Roles())
		}
	case keySetType:
		if !nameForm.MatchString(id) {
			return fmt.Sprintf("%v: the name of a key set is %s", e, nameForm)
		}
	case keyType:
		set, kind, ok := strings.Cut(id, "/")
		if !ok || !nameForm.MatchString(set) || !slices.Contains(KeyKinds(), kind) {
			return fmt.Sprintf("%v: expected Key::\"KEYSET/KIND\", with one of the kinds %v", e, KeyKinds())
		}
	case signerType:
		if e != theSigner {
			return fmt.Sprintf("%v: there is only %v", e, theSigner)
		}
	default:
		return fmt.Sprintf("unknown entity type %s: expected one of %s", e.Type, entityTypes())
	}
	return ""
}

// KeyKinds are the kinds of key that policies name, as keyderive names them.
func KeyKinds() []string {
	return []string{
		"purchase", "load", "unload", "overdraft", "tac", "pin-unblock", "pin-reload", "maintenance", "control", "internal-auth",
		"reader", "reader-control",
	}
}

// entities are those that the policy names, in its scope and its conditions.
func (c *checker) entities() (found []types.EntityUID) {
	for _, scope := range []ast.IsScopeNode{c.syntax.Principal, c.syntax.Action, c.syntax.Resource} {
		switch s := scope.(type) {
		case ast.ScopeTypeEq:
			found = append(found, s.Entity)
		case ast.ScopeTypeIn:
			found = append(found, s.Entity)
		case ast.ScopeTypeInSet:
			found = append(found, s.Entities...)
		case ast.ScopeTypeIsIn:
			found = append(found, s.Entity)
		}
	}
	for n := range c.nodes() {
		if v, ok := n.(ast.NodeValue); ok {
			if e, ok := v.Value.(types.EntityUID); ok {
				found = append(found, e)
			}
		}
	}
	return found
}

// namedTypes are the entity types that the policy names after "is".
func (c *checker) namedTypes() (found []types.EntityType) {
	for _, scope := range []ast.IsScopeNode{c.syntax.Principal, c.syntax.Resource} {
		switch s := scope.(type) {
		case ast.ScopeTypeIs:
			found = append(found, s.Type)
		case ast.ScopeTypeIsIn:
			found = append(found, s.Type)
		}
	}
	for n := range c.nodes() {
		switch n := n.(type) {
		case ast.NodeTypeIs:
			found = append(found, n.EntityType)
		case ast.NodeTypeIsIn:
			found = append(found, n.EntityType)
		}
	}
	return found
}

// nodes are all parts of the conditions.
func (r *rule) nodes() iter.Seq[ast.IsNode] {
	return func(yield func(ast.IsNode) bool) {
		more := true
		for _, condition := range r.syntax.Conditions {
			ast.Inspect(ast.NewNode(condition.Body), func(n ast.IsNode) bool {
				more = more && yield(n)
				return more
			})
		}
	}
}

func keysOf[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// literalForms are what the schema's strings can be: a policy that compares one with anything else would never apply, or always.
var literalForms = map[string]*regexp.Regexp{
	"purse":     regexp.MustCompile(`^(ED|EP)$`),
	"terminal":  regexp.MustCompile(`^[0-9A-F]{12}$`),
	"algorithm": regexp.MustCompile(`^(3DES|SM4)$`),
	"kind":      regexp.MustCompile(`^(` + strings.Join(KeyKinds(), "|") + `)$`),
	"profile":   nameForm,
}

// literals refuses strings that an attribute is compared with and can never be, unknown attributes after "has", and attributes of
// entities that no request is about.
func (c *checker) literals() {
	for n := range c.nodes() {
		switch n := n.(type) {
		case ast.NodeTypeEquals:
			c.compared(n.Left, n.Right)
			c.compared(n.Right, n.Left)
			c.groupAlone(n.Left, n.Right)
			c.groupAlone(n.Right, n.Left)
		case ast.NodeTypeNotEquals:
			c.compared(n.Left, n.Right)
			c.compared(n.Right, n.Left)
		case ast.NodeTypeContains:
			if set, ok := n.Left.(ast.NodeTypeSet); ok {
				for _, element := range set.Elements {
					c.compared(n.Right, element)
				}
			}
		case ast.NodeTypeHas:
			c.has(n)
		case ast.NodeTypeAccess:
			if v, ok := n.Arg.(ast.NodeValue); ok {
				c.refuse(c.at(c.words.attribute(string(n.Value), false)),
					"the attribute %s of %v: only those of principal and resource are known", n.Value, v.Value)
			}
		}
	}
}

// compared refuses a string that the attribute can never be.
func (c *checker) compared(attribute, literal ast.IsNode) {
	access, ok := attribute.(ast.NodeTypeAccess)
	if !ok {
		return
	}
	form := literalForms[string(access.Value)]
	value, ok := literal.(ast.NodeValue)
	if !ok || form == nil {
		return
	}
	text, ok := value.Value.(types.String)
	if !ok || form.MatchString(string(text)) {
		return
	}
	c.refuse(c.at(c.words.text(string(text))), "%s is never %q: it is %s", access.Value, string(text), form)
}

// has refuses a question for an attribute that nothing has.
func (c *checker) has(n ast.NodeTypeHas) {
	v, ok := n.Arg.(ast.NodeTypeVariable)
	if !ok || hasAttribute(string(v.Name), n.Value) {
		return
	}
	c.refuse(c.at(c.words.attribute(string(n.Value), true)), "unknown attribute `%s` of the %s", n.Value, v.Name)
}

func hasAttribute(variable string, name types.String) bool {
	s := theSchema()
	switch variable {
	case "context":
		for action := range s.Actions {
			if _, ok := s.attributes(action)[name]; ok {
				return true
			}
		}
	case "principal", "resource":
		for _, e := range s.Entities {
			if _, ok := e.Shape[name]; ok {
				return true
			}
		}
	}
	return false
}
