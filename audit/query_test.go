package audit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestQuery(t *testing.T) {
	e := whole()
	e.TACKey = &Key{Set: "demo", Kind: "tac", Version: 2}
	at := e.Time
	for _, test := range []struct {
		query Query
		want  bool
	}{
		{Query{}, true},
		{Query{KeySet: "demo"}, true}, {Query{KeySet: "dem"}, false},
		{Query{Card: "3105228000001117"}, true}, {Query{Card: "1117"}, true}, {Query{Card: "3105"}, false},
		{Query{Terminal: "112233445566"}, true}, {Query{Terminal: "112233445567"}, false},
		{Query{Client: "platform"}, true}, {Query{Client: "reader"}, false},
		{Query{Key: "demo/load/1"}, true}, {Query{Key: "demo/tac"}, true}, {Query{Key: "demo/"}, true}, {Query{Key: "demo/tac/1"}, false},
		{Query{Key: "demo/load/11"}, false}, {Query{Key: "dem"}, false},
		{Query{Event: "AuthorizeLoad"}, true}, {Query{Event: "ConfirmLoad"}, false},
		{Query{Outcome: "approved"}, true}, {Query{Outcome: "REFUSED"}, false},
		{Query{Since: at}, true}, {Query{Since: at.Add(1)}, false}, {Query{Until: at}, false}, {Query{Until: at.Add(1)}, true},
		{Query{Card: "1117", Outcome: "REFUSED"}, false},
	} {
		assert.Equal(t, test.want, test.query.Matches(e), "%+v", test.query)
	}
	start := Entry{Time: time.Unix(0, 0), Event: Started, Outcome: "OK"}
	assert.False(t, Query{Card: "1117"}.Matches(start))
	assert.False(t, Query{Key: "demo"}.Matches(start))
	assert.True(t, Query{Key: "b/load/3"}.Matches(Entry{Batch: &Batch{Keys: []BatchKey{{Key: Key{Set: "b", Kind: "load", Version: 3}}}}}))
	assert.True(t, Query{Key: "w"}.Matches(Entry{Writes: []KeyWrite{{Key: Key{Set: "w", Kind: "load", Version: 3}}}}))
}
