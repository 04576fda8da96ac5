package signer

import (
	"fmt"
	"slices"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
)

// issuance is a personalisation that was read: where the keys go, which, and under what.
type issuance struct {
	op      policy.Operation
	set     *keySet
	at      card           // whose keys they are; of a module its factor is the device number
	control keyderive.Kind // the kind that WRITE KEY goes under there
	version int            // of the keys to write; 0 is the newest of each kind
	onCard  int            // version of the control key that is there; 0 is the newest
	writes  []keyWrite
	plan    bool // no challenges: nothing is signed

	under Version // choose fills it in
}

// keyWrite is one key to write.
type keyWrite struct {
	kind      keyderive.Kind
	row       purse.KeyRow
	challenge []byte
	key       Version // choose fills it in
}

// read is the only reader of KeyWrites.
func (p *issuance) read(r KeyWrites) (err error) {
	if p.version, err = readVersion("keyVersion", r.KeyVersion); err != nil {
		return err
	}
	if p.onCard, err = readVersion("controlKeyVersion", r.ControlKeyVersion); err != nil {
		return err
	}
	kinds, err := p.readKinds(r.Kinds)
	if err != nil {
		return err
	}
	p.plan = len(r.Challenges) == 0
	if !p.plan && len(r.Challenges) != len(kinds) {
		return &purse.FieldError{
			Field: "challenges", Problem: fmt.Sprintf("%d, expected none or one for each of %d kinds", len(r.Challenges), len(kinds)),
		}
	}
	for i, kind := range kinds {
		w := keyWrite{kind: kind}
		if w.row, err = p.set.Profile.KeyRow(purse.KeyKind(kind.String())); err != nil {
			return &purse.FieldError{Field: "kinds", Problem: fmt.Sprintf("%v: the card profile has no row of WRITE KEY for it", kind)}
		}
		if !p.plan {
			w.challenge, err = purse.ParseHex(fmt.Sprintf("challenges[%d]", i), r.Challenges[i], p.set.Profile.ChallengeLen())
			if err != nil {
				return err
			}
		}
		p.writes = append(p.writes, w)
	}
	return nil
}

func readVersion(field string, n uint32) (int, error) {
	if n > 255 {
		return 0, &purse.FieldError{Field: field, Problem: fmt.Sprintf("is %d, expected 1 to 255, or 0 for the newest active", n)}
	}
	return int(n), nil
}

// kinds are those of the key set that go where the control kind is, in the order of EPURSE.md §1, the control key last.
func (p *issuance) kinds() (kinds []keyderive.Kind) {
	last := false
	for _, kind := range keyderive.Kinds() {
		switch {
		case len(p.set.versions[kind]) == 0 || controlOf(kind) != p.control:
		case kind == p.control:
			last = true
		default:
			kinds = append(kinds, kind)
		}
	}
	if last {
		kinds = append(kinds, p.control)
	}
	return kinds
}

// controlOf is the kind under which WRITE KEY puts another where it belongs.
func controlOf(kind keyderive.Kind) keyderive.Kind {
	if purse.KeyKind(kind.String()).OfModule() {
		return keyderive.KindReaderControl
	}
	return keyderive.KindControl
}

// readKinds reads the kinds to write; none is all. What is not a kind is not quoted.
func (p *issuance) readKinds(names []string) (kinds []keyderive.Kind, err error) {
	all := p.kinds()
	if len(all) == 0 {
		return nil, &purse.FieldError{Field: "keySet", Problem: "has no key of a kind that goes there"}
	}
	if len(names) == 0 {
		return all, nil
	}
	for i, name := range names {
		bad := func(problem string) ([]keyderive.Kind, error) {
			return nil, &purse.FieldError{Field: fmt.Sprintf("kinds[%d]", i), Problem: problem}
		}
		kind, err := keyderive.ParseKind(name)
		switch {
		case err != nil:
			return bad(fmt.Sprintf("is no kind of key, expected one of %v", all))
		case !slices.Contains(all, kind):
			return bad(fmt.Sprintf("%v: is none that goes there from this key set, expected one of %v", kind, all))
		case slices.Contains(kinds, kind):
			return bad(fmt.Sprintf("%v: is there twice", kind))
		case slices.Contains(kinds, p.control):
			return bad(fmt.Sprintf("%v: comes after the %v key, which replaces the one that it would go under", kind, p.control))
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

// choose finds the versions. It returns the key that may not do what was asked, and why; "" when all may.
func (p *issuance) choose() (refused KeyUsed, detail string) {
	number := p.onCard
	if number == 0 {
		number = p.set.newest(p.control)
	}
	p.under = p.set.version(p.control, number)
	switch {
	case !p.under.For(p.op).Replaces():
		return p.set.refusedKey(p.control, number), inactive(p.control, p.onCard)
	case !p.under.For(p.op).Signs() && (len(p.writes) != 1 || p.writes[0].kind != p.control):
		return p.set.refusedKey(p.control, number),
			fmt.Sprintf("the %v key of version %d is %v: it may write the %[1]v key that replaces it, alone", p.control, number, p.under.State)
	}
	for i := range p.writes {
		w := &p.writes[i]
		number := p.version
		if number == 0 {
			number = p.set.newest(w.kind)
		}
		w.key = p.set.version(w.kind, number)
		if !w.key.For(p.op).Signs() {
			return p.set.refusedKey(w.kind, number), inactive(w.kind, p.version)
		}
	}
	return KeyUsed{}, ""
}

func inactive(kind keyderive.Kind, asked int) string {
	if asked == 0 {
		return fmt.Sprintf("no %v key is active", kind)
	}
	return fmt.Sprintf("the %v key of version %d is not active", kind, asked)
}

// recorded is the writes as the audit entry has them: no command and no key.
func (p *issuance) recorded() (writes []audit.KeyWrite) {
	for _, w := range p.writes {
		used := p.set.used(w.key)
		writes = append(writes, audit.KeyWrite{Key: used.Key, Boundary: used.Boundary, Challenge: upperHex(w.challenge)})
	}
	return writes
}
