package custody

import (
	"sync"

	"github.com/pursekeeper/pursekeeper/policy"
)

// lately are the rules that were compiled last. One proposal has the same rules judged several times, inside the store's transaction, while all
// clients wait for it; and to compile them takes milliseconds.
var lately struct {
	sync.Mutex
	kept [4]compiledRules // the newest first
}

// compiledRules are rules by their digest, and what policy.New says of them.
type compiledRules struct {
	digest string
	policy *policy.Policy
	err    error
}

// compiled is policy.New of rules. Nobody may decide by it: it may be shared with those who only look.
func compiled(rules policy.Rules) (*policy.Policy, error) {
	digest := rules.Digest()
	lately.Lock()
	defer lately.Unlock()
	for _, known := range lately.kept {
		if known.digest == digest {
			return known.policy, known.err
		}
	}
	p, err := policy.New(rules)
	copy(lately.kept[1:], lately.kept[:])
	lately.kept[0] = compiledRules{digest, p, err}
	return p, err
}
