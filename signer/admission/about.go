package admission

import (
	"sync"
	"time"
)

// lately is how long a client is about after its work entered.
const lately = time.Second

// About is which clients were here lately: whether one is alone. The zero value knows of none. It is safe for concurrent use.
type About struct {
	mu           sync.Mutex
	name         string // the last that was seen
	seen, others time.Time
}

// see notes that a client is here.
func (a *About) see(name string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if name != a.name {
		a.name, a.others = name, a.seen // whoever was last seen before is another
	}
	a.seen = now
}

// alone reports whether no other client than name was seen lately.
func (a *About) alone(name string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	other := a.others
	if name != a.name {
		other = a.seen
	}
	return now.Sub(other) >= lately
}
