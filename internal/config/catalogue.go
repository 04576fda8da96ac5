package config

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/purse"
)

// FromCatalogue is a key set that officers decided on, as the rest of the program knows key sets. Its errors are of a set that this
// program cannot serve: one of a card profile that is not shipped with it, say.
func FromCatalogue(set custody.KeySet) (KeySet, error) {
	c := &checker{}
	served := KeySet{
		Name: set.Name, Algorithm: set.Algorithm, Location: c.location("timeZone", set.TimeZone), MAC1Failures: set.MAC1FailureLimit,
		TACVersion: set.TACVersion,
	}
	profile, err := purse.ShippedProfile(set.Profile)
	c.err("profile", err)
	if err == nil {
		c.issuer("issuer", issuerOf(set.Definition), profile, &served)
	}
	for _, k := range set.Keys {
		key, err := keyOf(k)
		c.err("key "+k.Label, err)
		served.Keys = append(served.Keys, key)
	}
	if len(c.problems) > 0 {
		return KeySet{}, &Invalid{Name: "key set " + set.Name, Problems: c.problems}
	}
	return served, nil
}

// issuerOf is what a configuration would say of the set's issuer levels.
func issuerOf(d custody.Definition) IssuerFactorsFile {
	if d.Issuer == "fixed" {
		return IssuerFactorsFile{List: d.Factors}
	}
	return IssuerFactorsFile{Word: d.Issuer}
}

func keyOf(k custody.Key) (key Key, err error) {
	key = Key{
		Kind: k.Kind, Version: k.Version, State: k.State, Boundary: k.Boundary, Label: k.Label,
		ActivateAt: k.ActivateAt, Due: k.Due, Created: k.Created, Origin: k.Origin,
	}
	if key.KCV, err = kcv.Parse(k.KCV.Value); err != nil {
		return key, err
	}
	if k.ID == "" {
		return key, nil
	}
	id, err := hex.DecodeString(k.ID)
	if err != nil || len(id) != len(hsm.ObjectID{}) {
		return key, errors.Join(fmt.Errorf("id %q: expected %d hex digits", k.ID, 2*len(hsm.ObjectID{})), err)
	}
	key.ID = hsm.ObjectID(id)
	return key, nil
}
