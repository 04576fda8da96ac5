package ceremony

import (
	"context"
	"crypto/subtle"
	"fmt"
	"io"

	"github.com/pursekeeper/pursekeeper/crypto/deskey"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// Make makes the components of a new key from random bytes, and shows each once, to its custodian alone, who types its check value when it is
// written down. The key itself is nowhere afterwards but on their papers; Whole.Key is empty.
func Make(ctx context.Context, s Screen, p *Plan, random io.Reader) (whole Whole, err error) {
	components, sum, err := makeComponents(p, random)
	defer func() {
		for i := range components {
			components[i].Wipe()
		}
	}()
	defer sum.Wipe()
	if err != nil {
		return whole, err
	}
	for i, component := range components {
		v, err := p.Material.CheckValue(component)
		if err != nil {
			return whole, err
		}
		if err := showOne(ctx, s, p, i, component, v); err != nil {
			return whole, fmt.Errorf("component %d: %w", i+1, err)
		}
		whole.Components = append(whole.Components, v)
	}
	whole.KCV, err = p.Material.CheckValue(sum)
	return whole, err
}

// makeComponents draws components until their sum is a key: by chance the first time.
func makeComponents(p *Plan, random io.Reader) (components []secret.Bytes, sum secret.Bytes, err error) {
	sum = secret.New(p.Material.Size())
	for range p.Custodians {
		components = append(components, secret.New(p.Material.Size()))
	}
	for range maxTries {
		total := sum.Reveal("to add the components")
		clear(total)
		for _, component := range components {
			raw := component.Reveal("to fill it")
			if _, err := io.ReadFull(random, raw); err != nil {
				return components, sum, fmt.Errorf("random bytes: %w", err)
			}
			if p.Material.Algorithm == tdes {
				deskey.SetOddParity(raw) // custodians and other systems expect it of a component
			}
			subtle.XORBytes(total, total, raw)
		}
		if err = p.Material.CheckWhole(sum); err == nil {
			return components, sum, nil
		}
	}
	return components, sum, fmt.Errorf("%w: %w", ErrWeakKey, err)
}

// showOne shows one component. It is gone from the screen before the next custodian comes, and when anything fails.
func showOne(ctx context.Context, s Screen, p *Plan, i int, component secret.Bytes, v kcv.Value) (err error) {
	who := p.Custodians[i].Name
	defer func() {
		if cleared := s.Clear(); err == nil {
			err = cleared
		}
	}()
	if err := s.Clear(); err != nil {
		return err
	}
	if err := confirm(ctx, s, fmt.Sprintf("Component %d of %d of %s (%v) is for %s, alone at the screen. Type your name: ",
		i+1, len(p.Custodians), p.Subject(), p.Material, who), who); err != nil {
		return err
	}
	text := written(component)
	defer text.Wipe()
	if err := s.Show("\nWrite it down. It is shown this once.\n\n    "); err != nil {
		return err
	}
	if err := s.Reveal(text); err != nil {
		return err
	}
	if err := s.Show(fmt.Sprintf("    check value %v\n\n", v)); err != nil {
		return err
	}
	return confirm(ctx, s, "When it is written down, type its check value: ", v.String())
}
