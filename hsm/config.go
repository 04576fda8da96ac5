package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// KeySpec is what the catalogue knows of a master key: how to find it, and what it must be.
type KeySpec struct {
	Label     string // CKA_LABEL, unique in the token, such as "demo/load/1"
	Kind      keyderive.Kind
	Algorithm suite.Algorithm
	Boundary  keyderive.Boundary
	ID        ObjectID  // CKA_ID; zero of a key that was made without
	KCV       kcv.Value // always compared: a key with another value fails closed

	// IssuerLevels is the number of issuer levels of the key set. A Lend with another number is refused (EPURSE.md §2), and
	// it decides the one right that the master has (DESIGN, §2):
	//
	//	TOKEN           DERIVE
	//	CARD, levels    DERIVE: the issuer-level key is a session object, with ENCRYPT
	//	CARD, no level  ENCRYPT: the master itself makes card keys
	//	PROCESS         no object of its own: a sealed value that the token opens
	//
	// On a token that does not derive with the algorithm (Profile.NoDerivation, or no SM4Derive) a CARD master has ENCRYPT
	// whatever its levels.
	IssuerLevels int
}

// Config is a token and what is to be used of it. Open is its only validator. Zero values of InFlight, Queue and Hang are the
// defaults.
type Config struct {
	Module     string // path of the PKCS#11 library
	TokenLabel string
	// PIN is asked for the user's PIN once for each login; the token wipes what it returns.
	PIN func(context.Context) (secret.Bytes, error)

	InFlight int           // calls inside the library at once: as many sessions, and workers
	Queue    int           // callers that may wait; one more gets ErrBusy
	Hang     time.Duration // a call inside for longer is written off with its session

	Profile Profile
	Keys    []KeySpec
	Log     *slog.Logger
}

// Defaults, chosen by BenchmarkLend on two cores: SoftHSM holds one lock, so that a second session only fills the gaps that the
// first leaves; an HSM on a network wants more.
const (
	DefaultInFlight = 2
	DefaultQueue    = 1024
	DefaultHang     = 10 * time.Second

	maxInFlight = 256
	maxQueue    = 1 << 20
	minHang     = 20 * time.Millisecond
	maxLevels   = 8
)

// reserved is the beginning of the labels of this package's own objects.
const reserved = "pursekeeper/"

// validated returns c with its defaults, or what is wrong with it, by field.
func (c Config) validated() (Config, error) {
	c.InFlight = orDefault(c.InFlight, DefaultInFlight)
	c.Queue = orDefault(c.Queue, DefaultQueue)
	c.Hang = orDefault(c.Hang, DefaultHang)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Module == "":
		return c, errors.New("token config: module: missing")
	case c.TokenLabel == "" || len(c.TokenLabel) > 32:
		return c, errors.New("token config: token label: expected 1 to 32 bytes")
	case c.PIN == nil:
		return c, errors.New("token config: pin: missing")
	case c.InFlight < 1 || c.InFlight > maxInFlight:
		return c, fmt.Errorf("token config: in flight %d: expected 1 to %d", c.InFlight, maxInFlight)
	case c.Queue < 1 || c.Queue > maxQueue:
		return c, fmt.Errorf("token config: queue %d: expected 1 to %d", c.Queue, maxQueue)
	case c.Hang < minHang:
		return c, fmt.Errorf("token config: hang %v: expected at least %v", c.Hang, minHang)
	}
	if err := c.Profile.validate(); err != nil {
		return c, fmt.Errorf("token config: %w", err)
	}
	labels := map[string]bool{}
	for i, spec := range c.Keys {
		if err := spec.validate(); err != nil {
			return c, fmt.Errorf("token config: keys[%d]: %w", i, err)
		}
		if labels[spec.Label] {
			return c, fmt.Errorf("token config: keys[%d]: label %q: twice", i, spec.Label)
		}
		labels[spec.Label] = true
	}
	return c, nil
}

func orDefault[T int | time.Duration](value, fallback T) T {
	if value == 0 {
		return fallback
	}
	return value
}

func (s KeySpec) validate() error {
	if err := s.validateLabel(); err != nil {
		return err
	}
	return s.validateUse()
}

func (s KeySpec) validateLabel() error {
	switch {
	case s.Label == "" || len(s.Label) > 128 || strings.ContainsFunc(s.Label, func(r rune) bool { return r < ' ' || r > '~' }):
		return fmt.Errorf("label %q: expected 1 to 128 printable characters", s.Label)
	case strings.HasPrefix(s.Label, reserved):
		return fmt.Errorf("label %q: %q is reserved", s.Label, reserved)
	}
	return nil
}

// validateUse checks all but the label, which the keys of a replay do not have.
func (s KeySpec) validateUse() error {
	switch {
	case !s.Kind.Valid():
		return fmt.Errorf("key %q: %v", s.Label, s.Kind)
	case !s.Algorithm.Valid():
		return fmt.Errorf("key %q: %v", s.Label, s.Algorithm)
	case s.Boundary < keyderive.BoundaryToken || s.Boundary > keyderive.BoundaryProcess:
		return fmt.Errorf("key %q: %v", s.Label, s.Boundary)
	case s.IssuerLevels < 0 || s.IssuerLevels > maxLevels:
		return fmt.Errorf("key %q: %d issuer levels, expected 0 to %d", s.Label, s.IssuerLevels, maxLevels)
	}
	return nil
}
