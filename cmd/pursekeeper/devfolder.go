package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/softhsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// devLabel marks a development token; dev refuses any other.
const devLabel = "pursekeeper-dev"

// devFolder is a folder with a whole development signer: token, PINs, certificates, configuration and state.
//
//	token/            SoftHSM's files and softhsm2.conf
//	pin, so-pin       of the token, drawn at random
//	tls/              the development authority and a certificate a role
//	pursekeeper.yaml  the configuration, made anew by each `pursekeeper dev`
//	state.db          the store
//	audit/            the sealed record; audit.pub the key that verifies it
type devFolder struct {
	dir           string
	listen, admin string
	say           io.Writer
}

func (f devFolder) path(name string) string { return filepath.Join(f.dir, name) }

// devRoles have a certificate each.
var devRoles = []string{"platform", "reader", "officer", "auditor", "personaliser"}

// prepare makes what is missing, imports keys that the token does not have, and returns the configuration. Test keys that
// cannot be read or merged are refused before anything is made.
func (f devFolder) prepare(ctx context.Context, testKeys string, log *slog.Logger) (*config.Config, error) {
	before, err := f.existing()
	if err != nil {
		return nil, err
	}
	wanted := demoKeySets()
	if testKeys != "" {
		more, err := readTestKeys(testKeys)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, more...)
	}
	sets, missing, err := merge(before, wanted)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	module, err := f.token()
	if err != nil {
		return nil, err
	}
	if err := devpki.WriteFolder(f.path("tls"), time.Now(), devRoles...); err != nil {
		return nil, err
	}
	return f.install(ctx, module, sets, missing, log)
}

// install validates the configuration before it puts a key into the token, and writes it down after.
func (f devFolder) install(ctx context.Context, module string, sets []devSet, missing []devKey, log *slog.Logger) (*config.Config, error) {
	text, err := f.configuration(module, sets)
	if err != nil {
		return nil, err
	}
	next := f.path("pursekeeper.yaml.new")
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return nil, err
	}
	cfg, err := config.Read(next)
	if err != nil {
		return nil, errors.Join(err, os.Remove(next))
	}
	if len(missing) > 0 {
		fmt.Fprintf(f.say, "importing %d test keys into the development token\n", len(missing))
		if err := importKeys(ctx, cfg, missing, log); err != nil {
			return nil, err
		}
	}
	return cfg, os.Rename(next, f.path("pursekeeper.yaml"))
}

// existing reads the configuration that an earlier dev left; one of a token that is not for development is refused.
func (f devFolder) existing() (*config.Config, error) {
	cfg, err := config.Read(f.path("pursekeeper.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n(remove %s to begin anew)", err, f.dir)
	}
	if !cfg.Token.Development || !strings.HasPrefix(cfg.Token.Label, devLabel) {
		return nil, fmt.Errorf("%s: token %q is not a development token: clear test keys do not go near it",
			f.path("pursekeeper.yaml"), cfg.Token.Label)
	}
	return cfg, nil
}

// token makes the SoftHSM token with random PINs unless it is there, and returns the module's path.
func (f devFolder) token() (module string, err error) {
	if module, err = softhsm.Find(); err != nil {
		return "", err
	}
	if _, err := os.Stat(f.path("token/softhsm2.conf")); err == nil {
		return module, nil
	}
	fmt.Fprintf(f.say, "making a development token in %s\n", f.dir)
	pins := map[string]string{"pin": "", "so-pin": ""}
	for name := range pins {
		var drawn [8]byte
		if _, err := rand.Read(drawn[:]); err != nil {
			return "", err
		}
		pins[name] = hex.EncodeToString(drawn[:])
		if err := os.WriteFile(f.path(name), []byte(pins[name]+"\n"), 0o600); err != nil {
			return "", err
		}
	}
	_, err = softhsm.Init(f.path("token"), devLabel, pins["pin"], pins["so-pin"])
	return module, err
}

// devSet is a key set as the development configuration writes it.
type devSet struct {
	Name, Algorithm string
	IssuerFactors   []string
	Keys            []devKey
}

type devKey struct {
	hsm.KeySpec
	Version int
	clear   clearKey
}

// merge adds the wanted key sets to those that the folder has, and says which keys the token lacks. A wanted key whose
// place is taken by another is an error.
func merge(before *config.Config, wanted []testKeySet) (sets []devSet, missing []devKey, err error) {
	have := map[string]bool{}
	if before != nil {
		for _, set := range before.KeySets {
			sets = append(sets, devSetOf(set))
			for _, key := range set.Keys {
				have[key.Label+" "+key.KCV.String()] = true
			}
		}
	}
	named := map[string]bool{}
	for _, set := range wanted {
		if named[set.Name] {
			return nil, nil, fmt.Errorf("key set %q is there twice (%s are built in)", set.Name, demoNames)
		}
		named[set.Name] = true
		at := slices.IndexFunc(sets, func(s devSet) bool { return s.Name == set.Name })
		if at < 0 {
			sets = append(sets, devSet{Name: set.Name, Algorithm: set.Algorithm.String(), IssuerFactors: set.IssuerFactors})
			at = len(sets) - 1
		}
		if !sets[at].is(set) {
			return nil, nil, fmt.Errorf("key set %q: the folder has it with another algorithm or other issuer factors; use another --dir",
				set.Name)
		}
		for _, key := range set.Keys {
			made, err := newDevKey(set, key)
			if err != nil {
				return nil, nil, err
			}
			if have[made.Label+" "+made.KCV.String()] {
				continue
			}
			if slices.ContainsFunc(sets[at].Keys, func(k devKey) bool { return k.Label == made.Label }) {
				return nil, nil, fmt.Errorf("key %s: the token has another key of that name; use another --dir", made.Label)
			}
			sets[at].Keys = append(sets[at].Keys, made)
			missing = append(missing, made)
		}
	}
	return sets, missing, nil
}

// is reports whether s derives as set does: keys of one cannot be added to the other otherwise.
func (s devSet) is(set testKeySet) bool {
	return s.Algorithm == set.Algorithm.String() && slices.EqualFunc(s.IssuerFactors, set.IssuerFactors, strings.EqualFold)
}

func newDevKey(set testKeySet, key testKey) (devKey, error) {
	value, err := key.MasterKey.checkValue(set.Algorithm)
	if err != nil {
		return devKey{}, err
	}
	return devKey{
		KeySpec: hsm.KeySpec{
			Label: fmt.Sprintf("%s/%v/%d", set.Name, key.Kind, key.Version), Kind: key.Kind, Algorithm: set.Algorithm,
			Boundary: set.keyBoundary(key.Kind), KCV: value, IssuerLevels: len(set.IssuerFactors),
		},
		Version: key.Version, clear: key.MasterKey,
	}, nil
}

// devSetOf is the way back from a validated key set.
func devSetOf(set config.KeySet) devSet {
	s := devSet{Name: set.Name, Algorithm: set.Algorithm.String()}
	if text := set.Issuer.Fixed.String(); text != "" {
		s.IssuerFactors = strings.Split(text, "/")
	}
	for _, key := range set.Keys {
		s.Keys = append(s.Keys, devKey{KeySpec: keySpec(set, key), Version: key.Version})
	}
	return s
}

// importKeys puts the missing keys into the token, which nothing else has open.
func importKeys(ctx context.Context, cfg *config.Config, missing []devKey, log *slog.Logger) error {
	bare := *cfg
	bare.KeySets = nil
	token, err := openToken(ctx, &bare, log)
	if err != nil {
		return err
	}
	for _, key := range missing {
		if err := importKey(ctx, token, key); err != nil {
			return errors.Join(fmt.Errorf("import %s: %w", key.Label, err), token.Close())
		}
	}
	return token.Close()
}

func importKey(ctx context.Context, token *hsm.Token, key devKey) error {
	var master secret.Bytes // locked memory, wiped as soon as the token has it
	master, err := key.clear.bytes()
	if err != nil {
		return err
	}
	defer master.Wipe()
	err = token.ImportMaster(ctx, key.KeySpec, master)
	if errors.Is(err, hsm.ErrExists) {
		return nil // an earlier dev was stopped after this key; its check value is compared when the token is opened
	}
	return err
}

var devTemplate = template.Must(template.New("configuration").Parse(`# Made by "pursekeeper dev". A development signer: its keys are published test keys.
listen: {{printf "%q" .Listen}}
admin: {{printf "%q" .Admin}}
tls: {certificate: tls/server.crt, key: tls/server.key, clientCA: tls/ca.crt}
token:
  module: {{printf "%q" .Module}}
  label: {{.Label}}
  pin: {file: pin}
  softhsmConf: token/softhsm2.conf
  development: true
store: {sqlite: state.db}
audit: {directory: audit}
clients:
{{- range .Clients}}
  - {name: {{.Name}}, identity: "{{.Identity}}", role: {{.Name}}, keySets: [{{$.Names}}]}
{{- end}}
keySets:
{{- range .Sets}}
  - name: {{printf "%q" .Name}}
    algorithm: {{.Algorithm}}
    profile: pboc-ep
    issuerFactors: {{if .IssuerFactors}}[{{range $i, $f := .IssuerFactors}}{{if $i}}, {{end}}{{printf "%q" $f}}{{end}}]{{else}}none{{end}}
    timeZone: Asia/Shanghai
    keys:
{{- range .Keys}}
      - {kind: {{.Kind}}, version: {{.Version}}, state: active, boundary: {{.Boundary}}, kcv: "{{.KCV}}"}
{{- end}}
{{- end}}
`))

// configuration writes pursekeeper.yaml.
func (f devFolder) configuration(module string, sets []devSet) ([]byte, error) {
	var names []string
	for _, set := range sets {
		names = append(names, strconv.Quote(set.Name))
	}
	type client struct{ Name, Identity string }
	var clients []client
	for _, role := range devRoles {
		clients = append(clients, client{role, devpki.Identity(role)})
	}
	var text strings.Builder
	err := devTemplate.Execute(&text, map[string]any{
		"Listen": f.listen, "Admin": f.admin, "Module": module, "Label": devLabel,
		"Clients": clients, "Names": strings.Join(names, ", "), "Sets": sets,
	})
	return []byte(text.String()), err
}
