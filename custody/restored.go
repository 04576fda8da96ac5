package custody

import (
	"fmt"
	"time"
)

// Restored is the catalogue after its backup was put into another token at a time: at the next revision, with every key that has a copy
// restored, and what had none gone. lost names the keys and transport keys that are gone: the keys are destroyed from now on, and
// transport keys are imported again by a ceremony. id is what Changed says of what is new.
func (c Catalogue) Restored(id string, now time.Time) (restored Catalogue, lost []string) {
	restored = c.clone()
	restored.Revision++
	for i := range restored.KeySets {
		set := &restored.KeySets[i]
		for j := range set.Keys {
			key := &set.Keys[j]
			switch {
			case key.State == Destroyed:
			case key.Wrapped == "":
				key.State, key.Changed = Destroyed, id
				lost = append(lost, fmt.Sprintf("%s/%v/%d", set.Name, key.Kind, key.Version))
			default:
				key.Origin, key.Changed = "restored", id
			}
		}
	}
	for _, t := range restored.Transports {
		lost = append(lost, "transport/"+t.Name)
	}
	restored.Transports = nil
	return restored, lost
}
