package hsm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Description is what a token says of itself, and which mechanisms it really has. It is for reports: nothing is decided by it.
type Description struct {
	Label, Manufacturer, Model, Serial string
	Hardware, Firmware                 string // versions, "MAJOR.MINOR"
	Slot                               string
	Library, LibraryMaker              string // what the PKCS#11 module calls itself
	LibraryVersion, Cryptoki           string
	Mechanisms                         []MechanismResult // in a fixed order
}

// MechanismResult is what came of one known-answer test.
type MechanismResult struct {
	Name   string // such as "3DES derive"
	Result string // PASSED, UNSUPPORTED or FAILED
	Detail string // of FAILED
}

// The results of known-answer tests.
const (
	MechanismPassed      = "PASSED"
	MechanismUnsupported = "UNSUPPORTED"
	MechanismFailed      = "FAILED"
)

// Describe asks the token, and runs the known-answer test of each mechanism that the project uses and that was not run in this
// generation yet.
func (t *Token) Describe(ctx context.Context) (Description, error) {
	g, err := t.generation()
	if err != nil {
		return Description{}, err
	}
	made := new(Description) // not a result variable: after an early return the job may still write it
	err = g.do(ctx, g.admin, newJob(func(s *session) (result, fault error) {
		fault = s.describe(g.slot, made)
		if fault == nil {
			fault = g.describeMechanisms(s, made)
		}
		if fault != nil {
			return publicError("describe the token", fault), fault
		}
		return nil, nil
	}))
	if err != nil {
		return Description{}, err
	}
	return *made, nil
}

func (s *session) describe(slot uint, d *Description) error {
	return s.call(func() error {
		ctx := s.module.ctx
		library, err := ctx.GetInfo()
		if err != nil {
			return err
		}
		place, err := ctx.GetSlotInfo(slot)
		if err != nil {
			return err
		}
		token, err := ctx.GetTokenInfo(slot)
		if err != nil {
			return err
		}
		d.Library, d.LibraryMaker = padded(library.LibraryDescription), padded(library.ManufacturerID)
		d.LibraryVersion, d.Cryptoki = versionText(library.LibraryVersion), versionText(library.CryptokiVersion)
		d.Slot = padded(place.SlotDescription)
		d.Label, d.Manufacturer, d.Model = padded(token.Label), padded(token.ManufacturerID), padded(token.Model)
		d.Serial = padded(token.SerialNumber)
		d.Hardware, d.Firmware = versionText(token.HardwareVersion), versionText(token.FirmwareVersion)
		return nil
	})
}

// padded takes the blanks off that PKCS#11 fills its texts with.
func padded(text string) string { return strings.TrimRight(text, " \x00") }

func versionText(v pkcs11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

func (g *generation) describeMechanisms(s *session, d *Description) error {
	all := []feature{{use: useSeal}}
	for alg := suite.TDES; alg.Valid(); alg++ {
		for _, u := range []use{useECB, useBatch, useCBC, useDerive} {
			all = append(all, feature{alg, u})
		}
	}
	all = append(all, feature{suite.TDES, useXOR}) // SM4 folds no key
	for _, f := range all {
		m := MechanismResult{Name: f.String(), Result: MechanismPassed}
		if !g.token.config.Profile.promises(f) {
			m.Result = MechanismUnsupported
			d.Mechanisms = append(d.Mechanisms, m)
			continue
		}
		switch err := g.prove(s, f); {
		case err == nil:
		case errors.Is(err, keyderive.ErrUnsupported):
			m.Result, m.Detail = MechanismFailed, "the profile promises it, and the token does not have it"
		case errors.Is(err, ErrSelfTest), classOf(err) == classRequest:
			m.Result, m.Detail = MechanismFailed, err.Error()
		default:
			return err
		}
		d.Mechanisms = append(d.Mechanisms, m)
	}
	return nil
}

// promises reports whether a token of the profile should have the mechanism: one that it does not promise is not tried.
func (p Profile) promises(f feature) bool {
	switch {
	case f.alg == suite.SM4 && p.SM4KeyType == 0:
		return false
	case f.use == useDerive:
		return p.derives(f.alg)
	case f.use == useXOR:
		return p.XORKeys != 0
	}
	return true
}
