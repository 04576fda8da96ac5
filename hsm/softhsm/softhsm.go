// Package softhsm makes development tokens with SoftHSM's own tool. It serves `pursekeeper dev`, the replay of vectors and the
// benchmarks, which need a token of their own, and the tests through hsm/hsmtest. It does not load the module and does not
// import the PKCS#11 binding: hsm is the only package that does (DESIGN §1).
//
// SoftHSM finds its tokens through a configuration file that the environment variable SOFTHSM2_CONF names, read at each
// C_Initialize. So a token made here is used by a process that has [Token.Env] in its environment before it initializes the
// module; Init itself changes nothing in the process that calls it.
//
// A token made here protects nothing: whoever reads its directory and knows its PIN has the keys.
package softhsm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// ConfVariable is the environment variable that names SoftHSM's configuration file.
	ConfVariable = "SOFTHSM2_CONF"
	// ModuleVariable is the environment variable that names the module where it is in no usual place.
	ModuleVariable = "PURSEKEEPER_SOFTHSM"

	confName   = "softhsm2.conf"
	tokensName = "tokens"
)

// ErrNotInstalled is wrapped by every error of this package that installing SoftHSM would cure.
var ErrNotInstalled = errors.New("softhsm2 is not installed: apt-get install softhsm2")

// Token is a SoftHSM token on disk. It holds no PIN: the caller of Init chose them and keeps them.
type Token struct {
	Module   string // path of libsofthsm2.so
	Label    string // the token's label, as given to Init
	ConfPath string // path of its softhsm2.conf
}

// Env is what a process needs in its environment, as NAME=value, to find the token.
func (t Token) Env() []string { return []string{ConfVariable + "=" + t.ConfPath} }

// Find returns the path of the SoftHSM module: where Debian puts it, else what PURSEKEEPER_SOFTHSM names.
func Find() (modulePath string, err error) {
	return find(
		"/usr/lib/softhsm/libsofthsm2.so",
		"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
		os.Getenv(ModuleVariable),
	)
}

func find(candidates ...string) (string, error) {
	for _, path := range candidates {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() {
			return path, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("softhsm: module: %w", err)
		}
	}
	return "", fmt.Errorf("softhsm: no module in the usual places nor by %s: %w", ModuleVariable, ErrNotInstalled)
}

// Init makes a token in dir: a softhsm2.conf and a directory for the objects, readable by their owner only. dir is made when
// it is missing; one that already holds a token is refused, never overwritten. The label has 1 to 32 bytes, a PIN 4 to 255
// printable ASCII characters.
func Init(dir, label, pin, soPIN string) (Token, error) {
	if err := validate(label, pin, soPIN); err != nil {
		return Token{}, err
	}
	module, err := Find()
	if err != nil {
		return Token{}, err
	}
	conf, err := configure(dir)
	if err != nil {
		return Token{}, err
	}
	token := Token{Module: module, Label: label, ConfPath: conf}
	if err := initialize(token, pin, soPIN); err != nil {
		return Token{}, errors.Join(err, os.Remove(conf)) // the directory may be tried again
	}
	return token, nil
}

func validate(label, pin, soPIN string) error {
	if label == "" || len(label) > 32 || !printable(label) {
		return errors.New("softhsm: label: want 1 to 32 printable ASCII characters")
	}
	if len(pin) < 4 || len(pin) > 255 || !printable(pin) {
		return errors.New("softhsm: pin: want 4 to 255 printable ASCII characters")
	}
	if len(soPIN) < 4 || len(soPIN) > 255 || !printable(soPIN) {
		return errors.New("softhsm: so pin: want 4 to 255 printable ASCII characters")
	}
	return nil
}

// printable keeps out what the terminal's line discipline would act on, an end of line first of all.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// configure writes dir's softhsm2.conf and returns its path. The file is made last and exclusively, so that it marks a
// directory that is taken.
func configure(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("softhsm: dir: %w", err)
	}
	// SoftHSM reads a value up to the end of the line, a '#' or a second '=', and trims it.
	if strings.ContainsAny(dir, "#=\r\n") || strings.TrimSpace(dir) != dir {
		return "", fmt.Errorf("softhsm: dir %q: SoftHSM's configuration cannot hold this path", dir)
	}
	tokens := filepath.Join(dir, tokensName)
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		return "", fmt.Errorf("softhsm: dir: %w", err)
	}
	path := filepath.Join(dir, confName)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("softhsm: dir: %s holds a token already: %w", dir, err)
	}
	if err != nil {
		return "", fmt.Errorf("softhsm: configuration: %w", err)
	}
	_, err = fmt.Fprintf(file, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
	if err := errors.Join(err, file.Close()); err != nil {
		return "", fmt.Errorf("softhsm: configuration: %w", err)
	}
	return path, nil
}
