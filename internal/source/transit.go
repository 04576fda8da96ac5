package source

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/hashicorp/vault/api"
	"golang.org/x/mod/semver"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// What [Transit] refuses beside what every use of Vault can be refused for.
var (
	ErrUnsafeKey = errors.New("vault's transit key is not fit to wrap keys")                                  // its type or settings
	ErrForeign   = errors.New("it was not wrapped so: under another key, for another binding, or is altered") // what Unwrap got
	ErrRetired   = errors.New("vault no longer unwraps this version of the transit key")                      // min_decryption_version
)

// TransitSpec is what an operator writes for a wrapping key in Vault's transit engine.
type TransitSpec struct {
	ServerSpec `yaml:",inline"`
	// Mount is where the engine is mounted; left out, "transit".
	Mount string `yaml:"mount"`
	// Key is the key's name there. It must exist: an engine makes a key of a mistyped name where the policy lets it.
	Key string `yaml:"key"`
}

// Transit wraps keys under a named key of Vault's transit engine, which never leaves Vault. It may be used by several goroutines.
//
// A key that is wrapped or unwrapped passes through Vault in clear, over TLS, and through this process's heap: as base64 in a string
// and in the JSON text of the request or the answer, and in the buffers of net/http and crypto/tls. None of these can be wiped; they
// lie there until the collector takes them and later memory overwrites them. Only the argument of Wrap and the result of Unwrap
// are in locked memory. So a process that unwraps does it and ends, or wraps a key that is of use only with another.
type Transit struct {
	*server
	mount, key string
}

// NewTransit makes the wrapping key that spec describes; relative file names are below dir. It touches nothing. The error joins
// one error for each problem.
func NewTransit(spec TransitSpec, dir string) (*Transit, error) {
	s, err := newServer("", spec.ServerSpec, dir)
	t := &Transit{server: s, mount: spec.Mount, key: spec.Key}
	if t.mount == "" {
		t.mount = "transit"
	}
	problems := []error{err, checkPath("mount", t.mount)}
	if !keyName.MatchString(t.key) {
		problems = append(problems, fmt.Errorf("key: %q: write a name of letters, digits and . _ -", t.key))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return t, nil
}

var keyName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)

func (t *Transit) String() string { return t.server.String() + " " + t.mount + " key " + t.key }

// Keep is [Source.Keep] for the login.
func (t *Transit) Keep(ctx context.Context, report func(error)) { t.keep(ctx, report) }

// wrapped is what the engine makes, of the layout
//
//	vault:v VERSION : base64( nonce[12] ‖ ciphertext ‖ tag[16] )
//
// with the version of the key in decimal.
var wrapped = regexp.MustCompile(`^vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+={0,2})$`)

// KeyVersion is the version of the transit key that a wrapped key is under.
func KeyVersion(text string) (int, error) {
	match := wrapped.FindStringSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("expected vault:vVERSION:BASE64: %w", ErrForeign)
	}
	if sealed, err := base64.StdEncoding.Strict().DecodeString(match[2]); err != nil || len(sealed) <= 12+16 {
		return 0, fmt.Errorf("expected base64 of more than 28 bytes after the version: %w", ErrForeign)
	}
	return strconv.Atoi(match[1])
}

// Wrap wraps key under the newest version of the transit key, so that only Unwrap with the same binding opens it. The binding
// says what the key is for; it is authenticated and not secret. The caller goes on owning key.
func (t *Transit) Wrap(ctx context.Context, key secret.Bytes, binding []byte) (string, error) {
	if key.Len() == 0 || len(binding) == 0 {
		return "", fmt.Errorf("%v: wrap: the key or the binding is empty", t)
	}
	p, err := t.properties(ctx)
	if err == nil {
		err = p.fit()
	}
	if err == nil {
		err = t.binds(ctx, p)
	}
	if err != nil {
		return "", fmt.Errorf("%v: wrap: %w", t, err)
	}
	answer, err := t.post(ctx, "encrypt", p, binding, "plaintext", base64.StdEncoding.EncodeToString(key.Reveal("to wrap it")))
	if err != nil {
		return "", fmt.Errorf("%v: wrap: %w", t, err)
	}
	text, _ := answer.Data["ciphertext"].(string)
	if version, err := KeyVersion(text); err != nil || version < p.Latest {
		return "", fmt.Errorf("%v: wrap: %w: no ciphertext under version %d", t, ErrUnusable, p.Latest)
	}
	return text, nil
}

// Unwrap answers the key that Wrap wrapped for the binding; the caller wipes it. What is not that is ErrForeign, what is under a
// version that Vault was told to refuse ErrRetired.
func (t *Transit) Unwrap(ctx context.Context, text string, binding []byte) (secret.Bytes, error) {
	version, err := KeyVersion(text)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%v: unwrap: %w", t, err)
	}
	p, err := t.properties(ctx)
	switch {
	case err != nil:
	case version > p.Latest:
		err = fmt.Errorf("%w: version %d is to come", ErrForeign, version)
	case version < p.Oldest:
		err = fmt.Errorf("%w: version %d, the oldest is %d", ErrRetired, version, p.Oldest)
	}
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%v: unwrap: %w", t, err)
	}
	answer, err := t.post(ctx, "decrypt", p, binding, "ciphertext", text)
	if errors.Is(err, errRefused) {
		err = ErrForeign
	}
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%v: unwrap: %w", t, err)
	}
	plain, _ := answer.Data["plaintext"].(string)
	key, err := base64.StdEncoding.Strict().DecodeString(plain)
	if err != nil || len(key) == 0 {
		clear(key)
		return secret.Bytes{}, fmt.Errorf("%v: unwrap: %w: no plaintext in base64", t, ErrUnusable)
	}
	return secret.Take(key), nil
}

// post sends field to a method of the engine, with the binding. A derived key takes it as its context too.
func (t *Transit) post(ctx context.Context, method string, p properties, binding []byte, field, value string) (*api.Secret, error) {
	bound := base64.StdEncoding.EncodeToString(binding)
	body := map[string]any{field: value, "associated_data": bound}
	if p.Derived {
		body["context"] = bound
	}
	return t.do(ctx, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().WriteWithContext(ctx, t.mount+"/"+method+"/"+t.key, body)
	})
}

// properties are what Vault says of the key, by its own names.
type properties struct {
	Type       string `json:"type"`
	Derived    bool   `json:"derived"`
	Convergent bool   `json:"convergent_encryption"`
	Exportable bool   `json:"exportable"`
	Plaintext  bool   `json:"allow_plaintext_backup"`
	Deletable  bool   `json:"deletion_allowed"`
	Latest     int    `json:"latest_version"`
	Oldest     int    `json:"min_decryption_version"`
}

// properties asks for the key first: the engine would make one of that name, where the policy lets it.
func (t *Transit) properties(ctx context.Context) (p properties, err error) {
	answer, err := t.do(ctx, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().ReadWithContext(ctx, t.mount+"/keys/"+t.key)
	})
	if err != nil {
		return p, err
	}
	text, err := json.Marshal(answer.Data)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil || p.Type == "" || p.Latest < 1 {
		return p, fmt.Errorf("%w: these are not a key's properties", ErrUnusable)
	}
	return p, nil
}

// fit refuses a key that could leave Vault, be lost, that does not authenticate, or that shows which keys are equal.
func (p properties) fit() error {
	switch {
	case !slices.Contains([]string{"aes256-gcm96", "aes128-gcm96", "chacha20-poly1305", "xchacha20-poly1305"}, p.Type):
		return fmt.Errorf("%w: its type is %q, not aes256-gcm96 or the like", ErrUnsafeKey, p.Type)
	case p.Exportable:
		return fmt.Errorf("%w: it is exportable", ErrUnsafeKey)
	case p.Plaintext:
		return fmt.Errorf("%w: allow_plaintext_backup is set", ErrUnsafeKey)
	case p.Deletable:
		return fmt.Errorf("%w: deletion_allowed is set", ErrUnsafeKey)
	case p.Convergent:
		return fmt.Errorf("%w: convergent_encryption is set", ErrUnsafeKey)
	}
	return nil
}

// firstBinding is the version of Vault that takes associated_data. An older one leaves it out, and says nothing. OpenBao's
// versions begin at 2.
const firstBinding = "v1.13.0"

// binds refuses a Vault that would not bind what it wraps.
func (t *Transit) binds(ctx context.Context, p properties) error {
	if p.Derived {
		return nil // every version derives the key by the context
	}
	health, err := t.health(ctx)
	if err != nil {
		return fmt.Errorf("%w: its version cannot be asked", ErrAway)
	}
	if version := "v" + health.Version; !semver.IsValid(version) || semver.Compare(version, firstBinding) < 0 {
		return fmt.Errorf("%w: it is older than %s, and would bind nothing: make the key derived", ErrUnusable, firstBinding)
	}
	return nil
}
