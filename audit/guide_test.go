package audit

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The guide lists the members of every object of an entry, in their order; those that are never left out with a star.
func TestTheGuideListsEveryMember(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join("..", "docs", "audit.md"))
	require.NoError(t, err)
	seen := map[reflect.Type]bool{}
	var look func(reflect.Type)
	look = func(object reflect.Type) {
		for object.Kind() == reflect.Pointer || object.Kind() == reflect.Slice {
			object = object.Elem()
		}
		if object.Kind() != reflect.Struct || object.PkgPath() != reflect.TypeFor[Entry]().PkgPath() || seen[object] {
			return
		}
		seen[object] = true
		var members []string
		for _, field := range reflect.VisibleFields(object) {
			look(field.Type)
			if field.Anonymous {
				continue // its members are the object's own
			}
			name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			if !strings.HasPrefix(options, "omit") {
				name += "*"
			}
			members = append(members, name)
		}
		line := strings.Join(members, " ")
		assert.Contains(t, strings.Join(strings.Fields(string(guide)), " "), " "+object.Name()+" "+line+" ", "docs/audit.md, the members of %s", object.Name())
	}
	look(reflect.TypeFor[Entry]())
	assert.GreaterOrEqual(t, len(seen), 4)
}
