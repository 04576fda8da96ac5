package policy

import (
	_ "embed" // the schema, and what is part of every policy
	"fmt"
	"sync"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

//go:embed schema.cedarschema
var schemaText string

//go:embed builtin.cedar
var builtin string

// Schema is the Cedar schema that policies are checked against: the entities, the actions and the context.
func Schema() string { return schemaText }

// The entity types of the schema.
const (
	clientType types.EntityType = "Client"
	roleType   types.EntityType = "Role"
	keySetType types.EntityType = "KeySet"
	keyType    types.EntityType = "Key"
	signerType types.EntityType = "Signer"
	actionType types.EntityType = "Action"
)

var theSigner = types.NewEntityUID(signerType, "signer")

// checked is the schema as the library has it, with what checks policies against it. Both are only read once they are made.
type checked struct {
	*resolved.Schema
	validator *validate.Validator
}

var theSchema = sync.OnceValue(func() checked {
	var s schema.Schema
	s.SetFilename("schema.cedarschema")
	if err := s.UnmarshalCedar([]byte(schemaText)); err != nil {
		panic(fmt.Sprintf("bug: the schema: %v", err))
	}
	r, err := s.Resolve()
	if err != nil {
		panic(fmt.Sprintf("bug: the schema: %v", err))
	}
	return checked{r, validate.New(r)}
})

// attributes are the context attributes that the schema gives an action, none where it has no such action.
func (s checked) attributes(action types.EntityUID) resolved.RecordType {
	found, ok := s.Actions[action]
	if !ok || found.AppliesTo == nil {
		return nil
	}
	return found.AppliesTo.Context
}
