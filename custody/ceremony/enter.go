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
	defer func() {
		if err != nil {
			whole.Key.Wipe()
		}
	}()
	for i, custodian := range p.Custodians {
		v, err := enterOne(ctx, s, p, i, custodian, whole.Key)
		if err != nil {
			return whole, fmt.Errorf("component %d: %w", i+1, err)
		}
		whole.Components = append(whole.Components, v)
	}
	return whole, whole.finish(p)
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

// enterOne adds one custodian's component to sum.
func enterOne(ctx context.Context, s Screen, p *Plan, i int, who Custodian, sum secret.Bytes) (v kcv.Value, err error) {
	if err := s.Clear(); err != nil {
		return v, err
	}
	if err := s.Show(fmt.Sprintf("Component %d of %d of %s (%v), of %s.\nNobody else looks at the keyboard.\n",
		i+1, len(p.Custodians), p.Subject(), p.Material, who.Name)); err != nil {
		return v, err
	}
	defer func() {
		if cleared := s.Clear(); err == nil {
			err = cleared
		}
	}()
	for range maxTries {
		component, taken, err := tryOne(ctx, s, p, who)
		if err != nil {
			return v, err
		}
		if !taken {
			continue
		}
		defer component.Wipe()
		raw := sum.Reveal("to add a component")
		subtle.XORBytes(raw, raw, component.Reveal("to add it"))
		return p.Material.CheckValue(component)
	}
	return v, fmt.Errorf("%w: %d times by %s", ErrTooManyTries, maxTries, who.Name)
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
		if !taken {
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
	answer, err := s.Line(ctx, fmt.Sprintf("\nCheck value %v. Is it the one on your paper? yes, or anything else to type again: ", v))
	if err != nil {
		return component, false, err
	}
	return component, answer == "yes", nil
}
