package policy

import (
	"fmt"
	"slices"
	"strings"
)

// What a right brings with it, whatever the policies say of the rest. An update whose data is encrypted lets its caller choose blocks
// that are encrypted under the card's maintenance key (EPURSE.md §6). The MAC of a command of one block is such a block, its first
// four bytes: so who has the one can make the other.
var (
	oracles  = []string{EncryptedUpdateBinary, EncryptedUpdateRecord}
	oneBlock = []string{CardBlock, ApplicationBlock, ApplicationUnblock, UpdateBinary, UpdateRecord}
)

// Implied is a right that brings others with it.
type Implied struct {
	Client, KeySet string
	By             []string // the rights that are an oracle
	All            []string // what comes with them
	Denied         []string // those of them that the policies deny, to no effect
}

// String says it in words.
func (i Implied) String() string {
	s := fmt.Sprintf("%s on %s: the right to %s implies every one-block command under the maintenance key: %s", i.Client, i.KeySet,
		strings.Join(i.By, " and "), strings.Join(i.All, ", "))
	if len(i.Denied) > 0 {
		s += fmt.Sprintf("; so that %s is denied is of no effect", strings.Join(i.Denied, ", "))
	}
	return s
}

// Implications are the rights on the key sets that bring others with them, by client and key set.
func (p *Policy) Implications(keySets []string) (found []Implied) {
	cells := p.Cells(keySets)
	for _, c := range p.Clients() {
		right := func(set, command string) Right {
			return cells[Cell{c.Name, c.Role, set, Action{SignCommand, command}}].Right
		}
		for _, set := range keySets {
			i := Implied{Client: c.Name, KeySet: set, All: slices.Clone(oneBlock)}
			for _, oracle := range oracles {
				if right(set, oracle) != No {
					i.By = append(i.By, oracle)
				}
			}
			for _, command := range oneBlock {
				if right(set, command) == No {
					i.Denied = append(i.Denied, command)
				}
			}
			if len(i.By) > 0 {
				found = append(found, i)
			}
		}
	}
	return found
}

// Challengers are the clients whose AuthenticateCard gives blocks of their choice under the control key, which WRITE KEY goes under.
func (p *Policy) Challengers(keySets []string) (found []string) {
	cells := p.Cells(keySets)
	for _, c := range p.Clients() {
		for _, set := range keySets {
			if cells[Cell{c.Name, c.Role, set, Action{AuthenticateCard, AuthenticateExternal}}].Right != No {
				found = append(found, c.Name+" on "+set)
			}
		}
	}
	return found
}

// Oracle reports whether a command lets its caller choose blocks that are encrypted under a key of one-block commands.
func Oracle(command string) bool { return slices.Contains(oracles, command) }
