package ceremony

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/deskey"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// Whole is the key that components make, and what the record says of them.
type Whole struct {
	Key        secret.Bytes // the caller wipes it; empty of Make
	KCV        kcv.Value
	Components []kcv.Value // in the order of the custodians
	// Adjusted is in how many bytes of the whole key the parity bit was set: the sum of two components with odd parity has even parity. DES
	// does not use these bits.
	Adjusted int
}

// Enter asks the custodians for their components, one after the other, and adds them (XOR). The whole key has the plan's check value and is
// none of the weak ones, or Enter fails and has wiped everything.
func Enter(ctx context.Context, s Screen, p *Plan) (whole Whole, err error) {
	whole.Key = secret.New(p.Material.Size())
	var components []secret.Bytes // until all are in, to be compared with the whole key
	defer func() {
		for i := range components {
			components[i].Wipe()
		}
		if err != nil {
			whole.Key.Wipe()
		}
	}()
	for i, custodian := range p.Custodians {
		component, v, err := enterOne(ctx, s, p, i, custodian)
		if err != nil {
			return whole, fmt.Errorf("component %d: %w", i+1, err)
		}
		components = append(components, component)
		whole.Components = append(whole.Components, v)
		whole.add(component)
	}
	for i, component := range components {
		if p.Material.sameKey(whole.Key, component) {
			return whole, fmt.Errorf("%w: component %d is the key itself, for the others cancel each other", ErrWeakKey, i+1)
		}
	}
	return whole, whole.finish(p)
}

func (w *Whole) add(component secret.Bytes) {
	raw := w.Key.Reveal("to add a component")
	subtle.XORBytes(raw, raw, component.Reveal("to add it"))
}

// finish checks the sum.
func (w *Whole) finish(p *Plan) error {
	if err := p.Material.CheckWhole(w.Key); err != nil {
		return fmt.Errorf("%w: %w", ErrWeakKey, err)
	}
	if p.Material.Algorithm == tdes {
		raw := w.Key.Reveal("to set its parity bits, which are counted for the record")
		w.Adjusted = len(deskey.EvenBytes(raw))
		deskey.SetOddParity(raw)
	}
	long, err := p.Material.longCheckValue(w.Key)
	if err != nil {
		return err
	}
	w.KCV = kcv.Value(long[:kcv.Size])
	if got := strings.ToUpper(hex.EncodeToString(long)); len(p.KCV.Value) < 2*kcv.Size || !strings.HasPrefix(got, p.KCV.Value) {
		return fmt.Errorf("%w: %s, expected %s", ErrCheckValue, got, p.KCV.Value)
	}
	return nil
}

// enterOne asks one custodian. The caller wipes the component.
func enterOne(ctx context.Context, s Screen, p *Plan, i int, who Custodian) (component secret.Bytes, v kcv.Value, err error) {
	if err := s.Clear(); err != nil {
		return component, v, err
	}
	if err := s.Show(fmt.Sprintf("Component %d of %d of %s (%v), of %s.\nNobody else looks at the keyboard.\n",
		i+1, len(p.Custodians), p.Subject(), p.Material, who.Name)); err != nil {
		return component, v, err
	}
	defer func() {
		if cleared := s.Clear(); err == nil {
			err = cleared
		}
		if err != nil {
			component.Wipe()
		}
	}()
	for range maxTries {
		component, taken, err := tryOne(ctx, s, p, who)
		if err != nil {
			return secret.Bytes{}, v, err
		}
		if taken {
			v, err = p.Material.CheckValue(component)
			return component, v, err
		}
	}
	return component, v, fmt.Errorf("%w: %d times by %s", ErrTooManyTries, maxTries, who.Name)
}

// tryOne reads one component. taken is false of one that is to be typed again, which is wiped.
func tryOne(ctx context.Context, s Screen, p *Plan, who Custodian) (component secret.Bytes, taken bool, err error) {
	typed, err := s.Secret(ctx, fmt.Sprintf("%d hex digits, not shown: ", 2*p.Material.Size()))
	if err != nil {
		return component, false, err
	}
	component, wrong := p.parseComponent(typed)
	typed.Wipe()
	if wrong != nil {
		return component, false, s.Show(fmt.Sprintf("\nNot taken: %v.\n", wrong))
	}
	defer func() {
		if !taken || err != nil {
			component.Wipe()
		}
	}()
	v, err := p.Material.CheckValue(component)
	if err != nil {
		return component, false, err
	}
	if who.KCV != "" {
		if v.String() == who.KCV {
			return component, true, s.Show(fmt.Sprintf("\nCheck value %v, as expected.\n", v))
		}
		return component, false, s.Show(fmt.Sprintf("\nNot taken: its check value is %v, expected %s.\n", v, who.KCV))
	}
	answer, err := s.Line(ctx, fmt.Sprintf("\nCheck value %v. Is it the one on your paper? yes, or no to type again: ", v))
	if err != nil {
		return component, false, err
	}
	return component, answer == "yes", nil
}
