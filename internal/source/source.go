// Package source says where the service's own secrets come from: the token's PIN, a database's password.
//
// A secret comes from a file, from an environment variable or from Vault, and never from the command line, which every user of
// the machine can read (DESIGN §7). What an operator writes is a [Spec]; [New] is its only validator and makes a [Source] of it;
// [Source.Read] answers a [secret.Bytes]. No error holds a byte of a secret, nor text that a server sent.
package source

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// What a reader can be refused for. Every error of Read wraps one of these, or context.Canceled, or names a fault of the
// configuration. [RetryAfter] says when Vault wants to be asked again.
var (
	ErrMissing     = errors.New("no such secret")                     // the file, variable, path or field is not there, or is empty
	ErrExposed     = errors.New("readable by others than its owner")  // a file's mode
	ErrSealed      = errors.New("vault is sealed")                    // an operator must unseal it
	ErrStandby     = errors.New("vault stands by")                    // no node of it is active
	ErrAway        = errors.New("vault is away")                      // no answer, or none that it gives when it is well
	ErrRateLimited = errors.New("vault limits our rate")              // status 429: come back later
	ErrDenied      = errors.New("vault denies it")                    // the token, the role or the policy
	ErrUntrusted   = errors.New("vault's certificate is not trusted") // the address, serverName or caFile
	ErrUnusable    = errors.New("vault's answer cannot be used")      // it is not what the API says: another server, or version
)

// maxLen bounds a secret: a PIN has at most 255 bytes, a Vault token a few hundred. A longer file is the wrong file.
const maxLen = 8 << 10

// Spec is what an operator writes for one secret: exactly one of the three.
type Spec struct {
	// File holds the secret and nothing else; one line end after it is not part of it. Only the owner may have access to it
	// (mode 0400 or 0600): a PIN that the machine's users can read is no PIN.
	File string `yaml:"file"`
	// Env names an environment variable. It is taken out of the environment when it is read.
	Env string `yaml:"env"`
	// Vault is a field of a key-value secret in HashiCorp Vault, or in what speaks its API.
	Vault *VaultSpec `yaml:"vault"`
}

// ServerSpec is what an operator writes of a Vault and of the login there. Nothing is taken from VAULT_* variables.
type ServerSpec struct {
	// Address is the URL of the server, https://HOST:8200. Plain http is accepted for a loopback address only: development, or
	// a Vault agent on the machine.
	Address string `yaml:"address"`
	// CAFile holds the certificates, PEM, that may have signed the server's; left out, those of the system. It is read at each login.
	CAFile string `yaml:"caFile"`
	// ServerName is the name that the server's certificate must hold; left out, the address's host. Where a node that stands by
	// redirects to another, the other's certificate must hold it too.
	ServerName string `yaml:"serverName"`
	// Namespace of Vault Enterprise or OpenBao that the login and the engine are in; left out, the root.
	Namespace string `yaml:"namespace"`
	// Token is a Vault token; or
	Token *CredentialSpec `yaml:"token"`
	// AppRole is a role to log in by. Exactly one of the two.
	AppRole *AppRoleSpec `yaml:"appRole"`
}

// VaultSpec is what an operator writes for a secret in Vault.
type VaultSpec struct {
	ServerSpec `yaml:",inline"`
	// Mount is where the key-value engine is mounted, for example "secret".
	Mount string `yaml:"mount"`
	// KVVersion is the engine's version, 1 or 2; left out, 2.
	KVVersion int `yaml:"kvVersion"`
	// Path of the secret under the mount, without "data/".
	Path string `yaml:"path"`
	// Field of the secret whose value, a string, is taken as it is.
	Field string `yaml:"field"`
}

// AppRoleSpec is a login by Vault's AppRole method.
type AppRoleSpec struct {
	// Mount is where the method is mounted; left out, "approle".
	Mount string `yaml:"mount"`
	// RoleID is the role's identifier. It is not a secret.
	RoleID string `yaml:"roleId"`
	// SecretID is, and may be used more than once: the role is logged in again when its token ends.
	SecretID CredentialSpec `yaml:"secretId"`
}

// CredentialSpec is what opens Vault: exactly one of the two, as in Spec.
type CredentialSpec struct {
	File string `yaml:"file"`
	Env  string `yaml:"env"`
}

// Source is one secret's place. It may be read by several goroutines, and more than once.
type Source struct{ origin origin }

// origin is a kind of place. String names it, and may go into errors and logs.
type origin interface {
	read(ctx context.Context) (secret.Bytes, error)
	keep(ctx context.Context, report func(error))
	String() string
}

// New makes the source that spec describes; relative file names are below dir. It touches nothing: no file is opened and no
// server asked until Read. The error joins one error for each problem, each beginning with the field's name.
func New(spec Spec, dir string) (*Source, error) {
	given := 0
	for _, is := range []bool{spec.File != "", spec.Env != "", spec.Vault != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, errors.New("write exactly one of file, env and vault")
	}
	if spec.Vault == nil {
		return &Source{newCredential(CredentialSpec{File: spec.File, Env: spec.Env}, dir)}, nil
	}
	v, err := newVault(*spec.Vault, dir)
	if err != nil {
		return nil, err
	}
	return &Source{v}, nil
}

// newCredential is the origin of a spec that has been seen to hold exactly one of file and env.
func newCredential(spec CredentialSpec, dir string) origin {
	if spec.File != "" {
		return file(resolve(spec.File, dir))
	}
	return &variable{name: spec.Env}
}

func resolve(path, dir string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// Read answers the secret as its place holds it now; the caller wipes it. A file and Vault are asked anew each time. A variable
// is taken out of the environment at the first Read, and later ones answer the same.
func (s *Source) Read(ctx context.Context) (secret.Bytes, error) { return s.origin.read(ctx) }

// Keep holds a login to Vault alive until ctx ends: it renews the token and, when that ends, logs in again. Each failure is
// reported and tried again, later each time up to a minute. For a file or a variable there is nothing to do, and Keep only
// waits. The caller runs it in a goroutine of its own, or not at all where the secret is read once.
func (s *Source) Keep(ctx context.Context, report func(error)) { s.origin.keep(ctx, report) }

// String names the place, and holds no secret.
func (s *Source) String() string { return s.origin.String() }
