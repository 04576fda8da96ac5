package opencryptoki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// ModuleVariable is the environment variable that names the library where it is in no usual place.
const ModuleVariable = "PURSEKEEPER_OPENCRYPTOKI"

// The longest and the shortest PIN of a token, as its C_GetTokenInfo gives them.
const (
	minPIN = 4
	maxPIN = 8
)

// ErrNotInstalled is wrapped by every error of this package that installing openCryptoki would cure.
var ErrNotInstalled = errors.New("opencryptoki is not installed: apt-get install opencryptoki")

// Token is an initialized token. It holds no PIN: the caller of Init chose them and keeps them.
type Token struct {
	Module string // path of libopencryptoki.so
	Label  string // the token's label, as given to Init
	Slot   int    // where it is: the place of its "slot" in opencryptoki.conf
}

// Find returns the path of the library: where Debian puts it, else what PURSEKEEPER_OPENCRYPTOKI names.
func Find() (modulePath string, err error) {
	return find(
		"/usr/lib/x86_64-linux-gnu/pkcs11/libopencryptoki.so",
		"/usr/lib/aarch64-linux-gnu/pkcs11/libopencryptoki.so",
		"/usr/lib/pkcs11/libopencryptoki.so",
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
			return "", fmt.Errorf("opencryptoki: module: %w", err)
		}
	}
	return "", fmt.Errorf("opencryptoki: no library in the usual places nor by %s: %w", ModuleVariable, ErrNotInstalled)
}

func validate(label, pin, soPIN string) error {
	switch {
	case label == "" || len(label) > 32 || !printable(label) || strings.TrimSpace(label) != label:
		return errors.New("opencryptoki: label: want 1 to 32 printable ASCII characters, with no space around them")
	case !validPIN(pin):
		return fmt.Errorf("opencryptoki: pin: want %d to %d printable ASCII characters", minPIN, maxPIN)
	case !validPIN(soPIN):
		return fmt.Errorf("opencryptoki: so pin: want %d to %d printable ASCII characters", minPIN, maxPIN)
	case soPIN == factorySOPIN:
		return errors.New("opencryptoki: so pin: it is the one of every new token")
	case pin == factoryPIN:
		return errors.New("opencryptoki: pin: it is the one of every new token")
	}
	return nil
}

func validPIN(pin string) bool { return len(pin) >= minPIN && len(pin) <= maxPIN && printable(pin) }

// printable keeps out what ends a line: pkcsconf reads its answers line by line.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
