package custody

import "time"

// Restored is the catalogue after its backup was put into another token: at the next revision, with every key that has a copy
// restored, and what had none gone. lost names the keys and transport keys that are gone: the keys are destroyed from now on, and
// transport keys are imported again by a ceremony. id is what Changed says of what is new.
func (c Catalogue) Restored(id string) (restored Catalogue, lost []string) {
	restored = c.clone()
	restored.Revision++
	for i := range restored.KeySets {
		set := &restored.KeySets[i]
		set.Changing = "" // whatever was at work in the lost token came to nothing
		for j := range set.Keys {
			key := &set.Keys[j]
			switch {
			case key.State == Destroyed:
			case key.Wrapped == "":
				key.State, key.ActivateAt, key.Changed = Destroyed, time.Time{}, id
				lost = append(lost, Label(set.Name, key.Name))
			case key.Origin == fromBlock: // it is not exportable, and stays so
				key.Changed = id
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
