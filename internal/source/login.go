package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// login is a way to get a token, by a credential. logIn answers the token and what is known of it as Vault's login does, in
// the Auth part: whether it can be renewed, and the seconds that it has; 0 for one that never ends.
type login interface {
	credential() origin
	logIn(ctx context.Context, client *api.Client, credential secret.Bytes) (*api.Secret, error)
	String() string
}

// grant is how long a token lives, and whether its life can be renewed.
type grant struct {
	life      time.Duration // 0: it never ends
	renewable bool
}

// newGrant reads the Auth part of an answer.
func newGrant(answer *api.Secret) (grant, error) {
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return grant{}, fmt.Errorf("%w: it holds no token", ErrUnusable)
	}
	if answer.Auth.LeaseDuration < 0 {
		return grant{}, fmt.Errorf("%w: a token's life below nothing", ErrUnusable)
	}
	return grant{time.Duration(answer.Auth.LeaseDuration) * time.Second, answer.Auth.Renewable}, nil
}

func newLogin(prefix string, spec ServerSpec, dir string) (login, error) {
	switch {
	case (spec.Token == nil) == (spec.AppRole == nil):
		return nil, fmt.Errorf("%stoken and appRole: write exactly one of them", prefix)
	case spec.Token != nil:
		if err := checkCredential(prefix+"token", *spec.Token); err != nil {
			return nil, err
		}
		return token{newCredential(*spec.Token, dir)}, nil
	}
	role := appRole{mount: spec.AppRole.Mount, roleID: spec.AppRole.RoleID}
	if role.mount == "" {
		role.mount = "approle"
	}
	problems := []error{checkPath(prefix+"appRole.mount", role.mount)}
	if role.roleID == "" {
		problems = append(problems, fmt.Errorf("%sappRole.roleId: missing", prefix))
	}
	problems = append(problems, checkCredential(prefix+"appRole.secretId", spec.AppRole.SecretID))
	role.secretID = newCredential(spec.AppRole.SecretID, dir)
	return role, errors.Join(problems...)
}

func checkCredential(field string, spec CredentialSpec) error {
	if (spec.File == "") == (spec.Env == "") {
		return fmt.Errorf("%s: write exactly one of file and env", field)
	}
	return nil
}

// token is a login by a token that somebody else made, and may replace in its file.
type token struct{ origin origin }

func (t token) String() string { return "token" }

func (t token) credential() origin { return t.origin }

func (t token) logIn(ctx context.Context, client *api.Client, credential secret.Bytes) (*api.Secret, error) {
	value := string(credential.Reveal("to open Vault"))
	if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%w: no token holds such characters", ErrDenied)
	}
	client.SetToken(value)
	self, err := client.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return nil, err
	}
	ttl, err := self.TokenTTL()
	if err != nil {
		return nil, fmt.Errorf("%w: the token's time to live is no number", ErrUnusable)
	}
	renewable, err := self.TokenIsRenewable()
	if err != nil {
		return nil, fmt.Errorf("%w: whether the token can be renewed is no yes or no", ErrUnusable)
	}
	seconds := int(ttl.Seconds())
	if self.Data["expire_time"] != nil {
		seconds = max(seconds, 1) // 0 is for one that never ends
	}
	return &api.Secret{Auth: &api.SecretAuth{ClientToken: value, Renewable: renewable, LeaseDuration: seconds}}, nil
}

// appRole is a login by a role and its secret.
type appRole struct {
	mount, roleID string
	secretID      origin
}

func (r appRole) String() string { return "appRole" }

func (r appRole) credential() origin { return r.secretID }

func (r appRole) logIn(ctx context.Context, client *api.Client, credential secret.Bytes) (*api.Secret, error) {
	answer, err := client.Logical().WriteWithContext(ctx, "auth/"+r.mount+"/login", map[string]any{
		"role_id": r.roleID, "secret_id": string(credential.Reveal("to open Vault")),
	})
	if unknownToAppRole(err) {
		return nil, fmt.Errorf("%w: the role, or its secret", ErrDenied)
	}
	return answer, err
}

// unknownToAppRole recognises how AppRole says that the role or its secret is wrong: with status 400, and in Vault 1.13.0 with
// 500, which is told from a failure by its words.
func unknownToAppRole(err error) bool {
	var refused *api.ResponseError
	if !errors.As(err, &refused) || refused.RawError {
		return false
	}
	return refused.StatusCode == http.StatusBadRequest ||
		refused.StatusCode == http.StatusInternalServerError && slices.Equal(refused.Errors, []string{"invalid secret id"})
}
