package signer

import (
	"fmt"
	"regexp"
	"time"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
)

// KeySet is one issuer's keys: an algorithm, a card profile, issuer factors, and numbered versions of each kind.
type KeySet struct {
	Name      string // [a-z0-9][a-z0-9-]{0,62}
	Algorithm suite.Algorithm
	Profile   purse.Profile
	Issuer    Issuer
	// Location is the time zone that fills a date and time that a request leaves out.
	Location *time.Location
	// MAC1Failures is the number of wrong MAC1s that lock a card; 0 never locks.
	MAC1Failures int
	// TACVersion maps a KVER to the version of the TAC key of its epoch; a KVER that is not in it maps to itself.
	TACVersion map[int]int
	Versions   []Version
}

// Issuer says where the levels above the card come from (EPURSE.md §9). The zero Issuer is no level.
type Issuer struct {
	FromCard bool           // one level: the card's issuer id, which the request gives
	Fixed    keyderive.Path // root first, when FromCard is false
}

// Version is one key of a set: its card KVER is its number.
type Version struct {
	Kind   keyderive.Kind
	Number int // 1 to 255
	State  custody.KeyState
	// ActivateAt is when a pre-active key becomes active by itself; zero: only by a change.
	ActivateAt time.Time
	// What its officers see beside that; zero of a key that no officers decided on.
	Due, Created time.Time
	Origin       string
	Boundary     keyderive.Boundary
	KCV          kcv.Value
	Key          keyderive.Key // may be nil of a destroyed key
	// Exposure is what came of the try to take a card key out, as far as it is known when asked; nil is nothing to try.
	Exposure func() Exposure
}

// For is what the key does for an operation; a version that is not there, the zero Version, does nothing.
func (v Version) For(op policy.Operation) custody.Allowance { return v.State.For(op) }

// IsKeySetName reports whether a key set may have that name.
func IsKeySetName(name string) bool { return keySetName.MatchString(name) }

var keySetName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// keySet is a KeySet that New has validated.
type keySet struct {
	KeySet
	versions map[keyderive.Kind]map[int]Version
}

func newKeySet(s KeySet) (*keySet, error) {
	switch {
	case !keySetName.MatchString(s.Name):
		return nil, fmt.Errorf("key set %q: name: expected [a-z0-9][a-z0-9-]{0,62}", s.Name)
	case !s.Algorithm.Valid():
		return nil, fmt.Errorf("key set %s: %v", s.Name, s.Algorithm)
	case s.Location == nil:
		return nil, fmt.Errorf("key set %s: no time zone", s.Name)
	case s.Issuer.FromCard && s.Issuer.Fixed.Len() > 0:
		return nil, fmt.Errorf("key set %s: issuer factors are fixed or taken from the card, not both", s.Name)
	}
	set := &keySet{KeySet: s, versions: map[keyderive.Kind]map[int]Version{}}
	for _, v := range s.Versions {
		if err := set.add(v); err != nil {
			return nil, fmt.Errorf("key set %s: %v version %d: %w", s.Name, v.Kind, v.Number, err)
		}
	}
	return set, nil
}

func (s *keySet) add(v Version) error {
	of := s.versions[v.Kind]
	if of == nil {
		of = map[int]Version{}
		s.versions[v.Kind] = of
	}
	_, twice := of[v.Number]
	switch {
	case !v.Kind.Valid():
		return fmt.Errorf("%v", v.Kind)
	case v.Number < 1 || v.Number > 255:
		return fmt.Errorf("expected 1 to 255")
	case twice:
		return fmt.Errorf("is there twice")
	case v.Key == nil && v.State == custody.Destroyed:
		// It is listed, and does nothing.
	case v.Key == nil:
		return fmt.Errorf("no key")
	case v.Key.Algorithm() != s.Algorithm:
		return fmt.Errorf("key is %v, expected %v", v.Key.Algorithm(), s.Algorithm)
	}
	of[v.Number] = v
	return nil
}

// at is the set with the keys active whose time has come, and when the next one's comes; zero: never.
func (s *keySet) at(now time.Time) (then *keySet, until time.Time) {
	then = &keySet{KeySet: s.KeySet, versions: make(map[keyderive.Kind]map[int]Version, len(s.versions))}
	for kind, versions := range s.versions {
		then.versions[kind] = make(map[int]Version, len(versions))
		for number, v := range versions {
			v.State = custody.Key{State: v.State, ActivateAt: v.ActivateAt}.At(now)
			if waits := v.State == custody.PreActive && !v.ActivateAt.IsZero(); waits && (until.IsZero() || v.ActivateAt.Before(until)) {
				until = v.ActivateAt
			}
			then.versions[kind][number] = v
		}
	}
	return then, until
}

// version finds a key; a version that does not exist is the zero Version, whose state neither signs nor verifies.
func (s *keySet) version(kind keyderive.Kind, number int) Version { return s.versions[kind][number] }

// newest is the highest version that signs; 0 when none does.
func (s *keySet) newest(kind keyderive.Kind) (number int) {
	for n, v := range s.versions[kind] {
		if v.State.Signs() && n > number {
			number = n
		}
	}
	return number
}

// tacNumber is the version of the TAC key of a KVER's epoch.
func (s *keySet) tacNumber(kver int) int {
	if mapped, ok := s.TACVersion[kver]; ok {
		return mapped
	}
	return kver
}

// master binds a version to the issuer levels of a card.
func (s *keySet) master(v Version, c card) keyderive.Master {
	if s.Issuer.FromCard {
		return keyderive.NewMaster(v.Key, keyderive.RootFirst(c.issuer))
	}
	return keyderive.NewMaster(v.Key, s.Issuer.Fixed)
}

// refusedKey names a key that may not do what was asked: all of it where the version exists, else what the card asked for.
func (s *keySet) refusedKey(kind keyderive.Kind, number int) KeyUsed {
	if v := s.version(kind, number); v.Number != 0 {
		return s.used(v)
	}
	return KeyUsed{Key: audit.Key{Set: s.Name, Kind: kind.String(), Version: number}}
}

// used is how an answer and the record name the key that answered.
func (s *keySet) used(v Version) KeyUsed {
	return KeyUsed{
		Key:      audit.Key{Set: s.Name, Kind: v.Kind.String(), Version: v.Number, KCV: v.KCV.String()},
		Boundary: v.Boundary.String(),
	}
}
