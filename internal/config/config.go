// Package config reads what an operator writes for `pursekeeper serve --config FILE`.
//
// A [File] is what is written, a [Config] what the program uses, and [New] the only way from one to the other. It is strict
// (an unknown field, a repeated one, one that has no use is an error) and names every problem at once, with its line. What is
// left out has the value that the field's comment names, or is an error. A configuration holds no secret, only where they are.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/pursekeeper/pursekeeper/internal/peers"
	"github.com/pursekeeper/pursekeeper/internal/strictyaml"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/signer"
)

// Config is a validated configuration. All names of files are absolute or relative to the working folder.
type Config struct {
	Listen          string
	Admin           string
	TLS             peers.Files
	Token           Token
	SQLite          string    // the state is in this file, or
	Postgres        *Postgres // in this server, which nodes share; exactly one of the two
	Audit           Audit
	Clients         []policy.Client // nil: those of the catalogue
	KeySets         []KeySet        // nil: those of the catalogue
	RequestTimeout  time.Duration
	ShutdownTimeout time.Duration
	ChallengeLife   time.Duration
	SessionLife     time.Duration
	Admission       Admission
	LogLevel        slog.Level
}

// Catalogued reports whether the keys are those of the catalogue, in the store: officers decide on each change of them.
func (c *Config) Catalogued() bool { return len(c.KeySets) == 0 }

// Audit is where the sealed record is.
type Audit struct {
	Directory string
	Origin    string
	Witnesses []Witness
}

// Defaults, for what is left out.
const (
	DefaultInFlight        = 2
	DefaultQueue           = 256
	DefaultHang            = 5 * time.Second
	DefaultMAC1Failures    = 5
	DefaultRequestTimeout  = 5 * time.Second
	DefaultShutdownTimeout = 20 * time.Second
)

// maxRequestTimeout is below the time that a connection is given to write its answer.
const maxRequestTimeout = time.Minute

// The longest lives of what a reader's secure module proves.
const (
	maxChallengeLife = 10 * time.Minute
	maxSessionLife   = 7 * 24 * time.Hour
)

// Read reads and validates a file. The error is an *Invalid where the file could be read.
func Read(path string) (*Config, error) {
	var file File
	doc, err := strictyaml.Read(path, &file)
	var invalid *Invalid
	switch {
	case errors.As(err, &invalid):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("configuration: %w", err)
	}
	config, err := New(file, filepath.Dir(path))
	return config, doc.Locate(path, err)
}

// New validates what an operator wrote; dir is the folder that names of files are relative to. The error is an *Invalid with
// all problems. The certificates and profile files that are named are read; the token, the store and the PIN are not touched.
func New(file File, dir string) (*Config, error) {
	c := &checker{dir: dir, development: file.Token.Development}
	config := &Config{Listen: file.Listen, Admin: file.Admin}
	c.addresses(file)
	config.TLS = c.tls(file.TLS)
	config.Token = c.token(file.Token)
	config.SQLite, config.Postgres = c.store(file.Store)
	config.Audit = c.audit(file.Audit, file.Token.Label)
	config.Clients = c.clients(file)
	config.KeySets = c.keySets(file.KeySets)
	config.RequestTimeout = c.duration("limits.requestTimeout", file.Limits.RequestTimeout, DefaultRequestTimeout, 10*time.Millisecond)
	c.atMost("limits.requestTimeout", config.RequestTimeout, maxRequestTimeout)
	config.ShutdownTimeout = c.duration("limits.shutdownTimeout", file.Limits.ShutdownTimeout, DefaultShutdownTimeout, 10*time.Millisecond)
	config.ChallengeLife = c.duration("limits.challengeLife", file.Limits.ChallengeLife, signer.DefaultChallengeLife, time.Second)
	c.atMost("limits.challengeLife", config.ChallengeLife, maxChallengeLife)
	config.SessionLife = c.duration("limits.sessionLife", file.Limits.SessionLife, signer.DefaultSessionLife, time.Second)
	c.atMost("limits.sessionLife", config.SessionLife, maxSessionLife)
	config.Admission = c.admission(file.Admission, config.Token, file.Clients)
	config.LogLevel = c.level(file.Log)
	if len(c.problems) > 0 {
		return nil, &Invalid{Name: "configuration", Problems: c.problems}
	}
	return config, nil
}

func (c *checker) addresses(file File) {
	c.address("listen", file.Listen)
	host, ok := c.address("admin", file.Admin)
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	switch {
	case ok && !loopback && !file.AdminInsecureNonLoopback:
		c.refuse("admin", "%q is no loopback address, and whoever reaches it is asked for nothing", file.Admin)
	case ok && loopback && file.AdminInsecureNonLoopback:
		c.refuse("adminInsecureNonLoopback", "has no use with a loopback address")
	}
	_, port, _ := net.SplitHostPort(file.Admin)
	if ok && file.Listen == file.Admin && port != "0" {
		c.refuse("admin", "is the address of listen too")
	}
}

// address accepts HOST:PORT. Port 0 lets the system choose.
func (c *checker) address(field, address string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		c.refuse(field, "%q: expected HOST:PORT", address)
	}
	return host, err == nil
}

// duration reads 5s, 250ms and their like.
func (c *checker) duration(field, text string, fallback, least time.Duration) time.Duration {
	if text == "" {
		return fallback
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least {
		c.refuse(field, "%q: expected a time of at least %v, such as %v", text, least, fallback)
	}
	return d
}

func (c *checker) atMost(field string, d, most time.Duration) {
	if d > most {
		c.refuse(field, "%v: expected at most %v", d, most)
	}
}

func (c *checker) level(file LogFile) slog.Level {
	levels := map[string]slog.Level{
		"": slog.LevelInfo, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	level, known := levels[file.Level]
	if !known {
		c.refuse("log.level", "%q: expected debug, info, warn or error", file.Level)
	}
	return level
}

// inFolder refuses a path whose folder is not there.
func (c *checker) inFolder(field, path string) {
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		c.refuse(field, "the folder %s is not there", filepath.Dir(path))
	}
}

var origin = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,128}$`)

func (c *checker) audit(file AuditFile, label string) Audit {
	if file.Directory == "" {
		c.refuse("audit.directory", "missing")
		return Audit{}
	}
	a := Audit{Directory: filepath.Clean(c.path(file.Directory)), Origin: file.Origin}
	c.inFolder("audit.directory", a.Directory)
	if info, err := os.Stat(a.Directory); err == nil && !info.IsDir() {
		c.refuse("audit.directory", "%s is no folder", a.Directory)
	}
	if a.Origin == "" {
		a.Origin = "pursekeeper/" + label
	}
	if !origin.MatchString(a.Origin) {
		c.refuse("audit.origin", "%q: expected 1 to 128 letters, digits and . / _ -", a.Origin)
	}
	a.Witnesses = c.witnesses(file.Witnesses)
	return a
}

// path resolves the name of a file.
func (c *checker) path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

// existing resolves the name of a file that must be there.
func (c *checker) existing(field, name string) (path string, ok bool) {
	if name == "" {
		c.refuse(field, "missing")
		return "", false
	}
	path = c.path(name)
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		c.refuse(field, "%s is not there", path)
	case err != nil:
		c.err(field, err)
	case info.IsDir():
		c.refuse(field, "%s is a folder", path)
	default:
		return path, true
	}
	return path, false
}

// clients checks that names and identities are unique and that what they name is there.
func (c *checker) clients(file File) []policy.Client {
	switch {
	case len(file.KeySets) == 0 && len(file.Clients) > 0:
		c.refuse("clients", "without keySets, officers decide on clients, by changes of the catalogue (docs/officers.md): leave clients out")
		return nil
	case len(file.KeySets) > 0 && len(file.Clients) == 0:
		c.refuse("clients", "missing: nobody could call")
	}
	var sets []string
	for _, set := range file.KeySets {
		sets = append(sets, set.Name)
	}
	clients := make([]policy.Client, 0, len(file.Clients))
	names, identities := map[string]bool{}, map[string]bool{}
	for i, f := range file.Clients {
		field := fmt.Sprintf("clients[%d]", i)
		c.unique(names, field+".name", f.Name)
		c.unique(identities, field+".identity", f.Identity)
		if f.Identity != "" && !identity.MatchString(f.Identity) {
			c.refuse(field+".identity", "%q: expected a URI, such as spiffe://example.org/platform, or a DNS name", f.Identity)
		}
		if !slices.Contains(policy.Roles(), policy.Role(f.Role)) {
			c.refuse(field+".role", "%q: expected one of %v", f.Role, policy.Roles())
		}
		c.clientKeySets(field+".keySets", f.KeySets, sets)
		if f.MaxAmountFen < 0 || f.MaxAmountFen > maxFen {
			c.refuse(field+".maxAmountFen", "%d: expected 0 (no limit of its own) to %d", f.MaxAmountFen, int64(maxFen))
		}
		clients = append(clients, policy.Client{Name: f.Name, Identity: f.Identity, Role: policy.Role(f.Role),
			KeySets: f.KeySets, MaxAmountFen: uint64(f.MaxAmountFen)})
	}
	return clients
}

func (c *checker) clientKeySets(field string, names, known []string) {
	if len(names) == 0 {
		c.refuse(field, "missing: it could do nothing")
	}
	seen := map[string]bool{}
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", field, i)
		c.unique(seen, at, name)
		if name != "" && !slices.Contains(known, name) {
			c.refuse(at, "there is no key set %q", name)
		}
	}
}

// unique refuses an empty or repeated value.
func (c *checker) unique(seen map[string]bool, field, value string) {
	switch {
	case value == "":
		c.refuse(field, "missing")
	case seen[value]:
		c.refuse(field, "%q is there twice", value)
	}
	seen[value] = true
}
