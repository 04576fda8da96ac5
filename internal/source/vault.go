package source

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// vault is one field of a secret in Vault's key-value engine.
//
// Vault's client library hands secrets out as Go strings in maps, and keeps its token as one: those copies lie on the Go heap
// until the collector takes them and later memory overwrites them, and nothing can wipe them. Only what Read answers is in
// locked memory. Where that matters (swap, core dumps), give the secret by a file on a memory file system.
type vault struct {
	*server
	field string
	path  string // as the API wants it, with "data/" for version 2
	inner string // "data" for version 2, whose answer holds the secret one level down
}

// newVault validates spec. Its error joins one error for each problem.
func newVault(spec VaultSpec, dir string) (*vault, error) {
	s, err := newServer("vault.", spec.ServerSpec, dir)
	v := &vault{server: s, field: spec.Field}
	problems := []error{err, checkPath("vault.mount", spec.Mount), checkPath("vault.path", spec.Path)}
	if spec.Field == "" {
		problems = append(problems, errors.New("vault.field: missing"))
	}
	switch spec.KVVersion {
	case 0, 2:
		v.path, v.inner = spec.Mount+"/data/"+spec.Path, "data"
	case 1:
		v.path = spec.Mount + "/" + spec.Path
	default:
		problems = append(problems, fmt.Errorf("vault.kvVersion: %d: write 1 or 2", spec.KVVersion))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return v, nil
}

// checkPath accepts what a URL's path repeats as it is, so that what is written is what is asked for.
func checkPath(field, path string) error {
	for part := range strings.SplitSeq(path, "/") {
		strange := strings.ContainsFunc(part, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`%?#\`, r) })
		if part == "" || part == "." || part == ".." || strange {
			return fmt.Errorf("%s: %q: write names of printable ASCII with single slashes between them, none at either end", field, path)
		}
	}
	return nil
}

func (v *vault) String() string { return v.server.String() + " " + v.path + " " + v.field }

func (v *vault) read(ctx context.Context) (secret.Bytes, error) {
	answer, err := v.do(ctx, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().ReadWithContext(ctx, v.path)
	})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%v: read: %w", v, err)
	}
	data := answer.Data
	if v.inner != "" {
		data, _ = data[v.inner].(map[string]any) // null where the newest version was deleted
	}
	value, found := data[v.field]
	text, isString := value.(string)
	switch {
	case !found || isString && text == "":
		return secret.Bytes{}, fmt.Errorf("%v: the field is missing or empty: %w", v, ErrMissing)
	case !isString:
		return secret.Bytes{}, fmt.Errorf("%v: the field is a %T, not a string: %w", v, value, ErrUnusable)
	case len(text) > maxLen:
		return secret.Bytes{}, fmt.Errorf("%v: %d bytes, more than any secret of this service (%d): %w", v, len(text), maxLen, ErrUnusable)
	}
	return secret.Take([]byte(text)), nil
}
