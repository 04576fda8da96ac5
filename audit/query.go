package audit

import (
	"fmt"
	"strings"
	"time"
)

// Query chooses entries. An empty field chooses all.
type Query struct {
	KeySet   string
	Card     string // 16 hex digits of the card's factor, or the end of them
	Terminal string
	Client   string
	Key      string // SET/KIND/VERSION, or its beginning SET/KIND
	Event    Event
	Outcome  string
	Since    time.Time // entries dated so or later
	Until    time.Time // entries dated before
}

// Matches reports whether the query chooses the entry.
func (q Query) Matches(e Entry) bool {
	return (q.KeySet == "" || q.KeySet == e.KeySet) &&
		(q.Card == "" || e.Card != "" && strings.HasSuffix(e.Card, strings.ToUpper(q.Card))) &&
		(q.Terminal == "" || strings.EqualFold(q.Terminal, e.Inputs.Terminal)) &&
		(q.Client == "" || q.Client == e.Client) &&
		(q.Key == "" || uses(e, q.Key)) &&
		(q.Event == "" || q.Event == e.Event) &&
		(q.Outcome == "" || strings.EqualFold(q.Outcome, e.Outcome)) &&
		(q.Since.IsZero() || !e.Time.Before(q.Since)) &&
		(q.Until.IsZero() || e.Time.Before(q.Until))
}

// uses reports whether the entry used a key, in any place of it.
func uses(e Entry, name string) bool {
	for _, key := range e.keys() {
		if strings.HasPrefix(key.String()+"/", strings.TrimSuffix(name, "/")+"/") {
			return true
		}
	}
	return false
}

// keys are all keys that the entry names.
func (e Entry) keys() (keys []Key) {
	for _, key := range []*Key{e.Key, e.TACKey} {
		if key != nil {
			keys = append(keys, *key)
		}
	}
	if e.Batch != nil {
		for _, key := range e.Batch.Keys {
			keys = append(keys, key.Key)
		}
	}
	for _, write := range e.Writes {
		keys = append(keys, write.Key)
	}
	return keys
}

// KeySets are the names of all key sets that the entry is about; none of one about the service. A name may come twice.
func (e Entry) KeySets() (names []string) {
	if e.KeySet != "" {
		names = append(names, e.KeySet)
	}
	for _, key := range e.keys() {
		names = append(names, key.Set)
	}
	return names
}

// String is SET/KIND/VERSION.
func (k Key) String() string { return fmt.Sprintf("%s/%s/%d", k.Set, k.Kind, k.Version) }
