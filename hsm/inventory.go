package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// ObjectKind is what an object of the token is to this project. The zero value is invalid.
type ObjectKind uint8

// The kinds.
const (
	ObjectMaster    ObjectKind = iota + 1 // a secret key that has no reserved label: a master, or nobody's
	ObjectSealed                          // a data object that holds a sealed master
	ObjectSealing                         // the key that masters are sealed under
	ObjectBackup                          // a backup key
	ObjectTransport                       // a transport key: its check value is TransportKey's to compare
	ObjectOther                           // a secret key with a reserved label that this version does not know
	ObjectPrivate                         // the private key of a SigningKey
	ObjectPublic                          // its public key
)

var objectKinds = [...]string{ObjectMaster: "master", ObjectSealed: "sealed master", ObjectSealing: "sealing key", ObjectBackup: "backup key", ObjectTransport: "transport key",
	ObjectOther: "unknown key", ObjectPrivate: "private signing key", ObjectPublic: "public signing key"}

// String names the kind in reports.
func (k ObjectKind) String() string {
	if k >= ObjectMaster && int(k) < len(objectKinds) {
		return objectKinds[k]
	}
	return fmt.Sprintf("invalid object kind %d", uint8(k))
}

// Object is one object of the token. It holds no secret.
type Object struct {
	Kind    ObjectKind
	Label   string
	ID      ObjectID // zero where it has none
	KeyType uint     // CKA_KEY_TYPE; 0 of a sealed master

	// Algorithm is the suite of a master; 0 where it cannot be told.
	Algorithm suite.Algorithm

	// KCV is the check value of a master, or of a backup key (BackupCheckValue), computed by the token now. HasKCV is false where it
	// could not be, and Problem says why.
	KCV     kcv.Value
	HasKCV  bool
	Problem string

	flags map[uint]bool // the attributes that are flags, of those that the token knows
}

// Attributes are the names of the flags that are set, such as "CKA_DERIVE".
func (o Object) Attributes() (names []string) {
	for _, f := range flagsOfObjects {
		if o.flags[f.kind] {
			names = append(names, f.name)
		}
	}
	return names
}

// flagsOfObjects are the flags that are read, with their names.
var flagsOfObjects = slices.Concat(protection, rightsOf(0), []expectation{
	{kind: pkcs11.CKA_LOCAL, name: "CKA_LOCAL"},
	{kind: pkcs11.CKA_ALWAYS_SENSITIVE, name: "CKA_ALWAYS_SENSITIVE"},
	{kind: pkcs11.CKA_NEVER_EXTRACTABLE, name: "CKA_NEVER_EXTRACTABLE"},
})

// Inventory is what the token held at one time, in the order of labels.
type Inventory struct {
	Objects []Object
	profile Profile
}

// maxObjects bounds an inventory: a token with more is not one of this project.
const maxObjects = 1 << 14

// Inventory looks at every object of the token once: secret keys, the sealed masters, the key pairs of SigningKey. It computes the check value
// of each master, so it takes some hundred calls of the token for each, and no key is made or destroyed meanwhile. Other
// data objects and key pairs are not this project's, and left out.
func (t *Token) Inventory(ctx context.Context) (Inventory, error) {
	leave, err := t.enterOffice(ctx)
	if err != nil {
		return Inventory{}, err
	}
	defer leave()
	g, err := t.generation()
	if err != nil {
		return Inventory{}, err
	}
	var handles []pkcs11.ObjectHandle
	err = t.onAdminOf(ctx, g, "inventory", func(s *session) (err error) {
		if err := t.settleAll(s); err != nil {
			return err
		}
		handles, err = s.tokenObjects()
		return err
	})
	if err != nil {
		return Inventory{}, err
	}
	inventory := Inventory{profile: t.config.Profile}
	for _, handle := range handles { // a job for each: the signer's work goes on between them
		var object Object
		var ours bool
		err := t.onAdminOf(ctx, g, "inventory", func(s *session) (err error) {
			object, ours, err = g.look(s, handle)
			return err
		})
		if err != nil {
			return Inventory{}, err
		}
		if ours {
			inventory.Objects = append(inventory.Objects, object)
		}
	}
	slices.SortStableFunc(inventory.Objects, func(a, b Object) int { return strings.Compare(a.Label, b.Label) })
	return inventory, nil
}

// tokenObjects finds the objects that outlive sessions: those of sessions come and go beside this call.
func (s *session) tokenObjects() (all []pkcs11.ObjectHandle, err error) {
	err = s.call(func() error {
		ctx := s.module.ctx
		if err := ctx.FindObjectsInit(s.handle, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)}); err != nil {
			return err
		}
		var err error
		for err == nil && len(all) <= maxObjects {
			var some []pkcs11.ObjectHandle
			if some, _, err = ctx.FindObjects(s.handle, 256); len(some) == 0 {
				break
			}
			all = append(all, some...)
		}
		return errors.Join(err, ctx.FindObjectsFinal(s.handle))
	})
	if err == nil && len(all) > maxObjects {
		err = fmt.Errorf("the token has more than %d objects", maxObjects)
	}
	return all, err
}

// look reads one object; ours is false of what is not this project's, and of what another process destroyed meanwhile.
func (g *generation) look(s *session, handle pkcs11.ObjectHandle) (o Object, ours bool, err error) {
	ours, err = g.identify(s, handle, &o)
	if ours && err == nil {
		err = g.describe(s, handle, &o)
	}
	if isCode(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) || isCode(err, pkcs11.CKR_KEY_HANDLE_INVALID) {
		return Object{}, false, nil
	}
	return o, ours, err
}

// identify says what an object is.
func (g *generation) identify(s *session, handle pkcs11.ObjectHandle, o *Object) (ours bool, err error) {
	class, err := s.number(handle, pkcs11.CKA_CLASS)
	if err != nil {
		return false, err
	}
	label, _, err := s.attribute(handle, pkcs11.CKA_LABEL)
	if err != nil {
		return false, err
	}
	o.Label = string(label)
	switch class {
	case pkcs11.CKO_SECRET_KEY:
		switch {
		case o.Label == kekLabel:
			o.Kind = ObjectSealing
		case strings.HasPrefix(o.Label, backupPrefix):
			o.Kind = ObjectBackup
		case strings.HasPrefix(o.Label, transportPrefix):
			o.Kind = ObjectTransport
		case strings.HasPrefix(o.Label, reserved):
			o.Kind = ObjectOther
		default:
			o.Kind = ObjectMaster
		}
	case pkcs11.CKO_DATA:
		name, _, err := s.attribute(handle, pkcs11.CKA_APPLICATION)
		if err != nil || string(name) != application {
			return false, err
		}
		o.Kind = ObjectSealed
	case pkcs11.CKO_PRIVATE_KEY:
		o.Kind = ObjectPrivate
	case pkcs11.CKO_PUBLIC_KEY:
		o.Kind = ObjectPublic
	default:
		return false, nil
	}
	return o.Kind < ObjectPrivate || strings.HasPrefix(o.Label, reserved), nil
}

// describe reads the attributes of an object and computes its check value.
func (g *generation) describe(s *session, handle pkcs11.ObjectHandle, o *Object) (err error) {
	o.flags = map[uint]bool{}
	for _, f := range flagsOfObjects {
		value, known, err := s.attribute(handle, f.kind)
		if err != nil {
			return fmt.Errorf("%q: %s: %w", o.Label, f.name, err)
		}
		if known && len(value) == 1 {
			o.flags[f.kind] = value[0] != 0
		}
	}
	if o.Kind != ObjectSealed {
		if o.KeyType, err = s.number(handle, pkcs11.CKA_KEY_TYPE); err != nil {
			return err
		}
	}
	if o.Kind < ObjectPrivate {
		if o.ID, err = s.idOf(handle); err != nil && classOf(err) > classRequest {
			return err
		}
	}
	if o.Kind > ObjectSealed && o.Kind != ObjectBackup {
		return nil
	}
	if e, failed := g.entry(o.Label); e != nil && failed != nil {
		o.Problem = failed.Error() // and a value that draws a fault of the device is not asked for again
		return nil
	}
	err = g.valueOf(s, handle, o)
	if classOf(err) > classRequest && !vague(err) { // a vague one, after the mechanism was proven, is the object's
		return fmt.Errorf("%q: %w", o.Label, err)
	}
	if err != nil {
		o.Problem = err.Error()
	}
	o.HasKCV = err == nil
	return nil
}

func (g *generation) valueOf(s *session, handle pkcs11.ObjectHandle, o *Object) (err error) {
	if o.Kind == ObjectBackup {
		if err := g.prove(s, feature{use: useWrap}); err != nil {
			return err
		}
		o.KCV, err = backupKey{handle, g.token.config.Profile.NoKeyWrap}.checkValue(s)
		return err
	}
	if d, err := g.token.config.Profile.dialectOf(o.KeyType); err == nil {
		o.Algorithm = d.alg
	}
	spec := KeySpec{Label: o.Label, ID: o.ID}
	o.KCV, err = g.checkValueAny(s, handle, &spec)
	if o.Kind == ObjectSealed && err == nil {
		o.Algorithm = spec.Algorithm
	}
	return err
}
