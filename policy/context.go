package policy

import (
	"time"

	"github.com/cedar-policy/cedar-go/types"
)

// context is c in Cedar: the attributes that the schema gives the action and that c has.
func (p *plan) context(c Context) types.RecordMap {
	m := make(types.RecordMap, len(p.attributes)+1)
	set := func(name types.String, value types.Value) {
		if _, ok := p.attributes[name]; ok {
			m[name] = value
		}
	}
	text := func(name types.String, value string) {
		if value != "" {
			set(name, types.String(value))
		}
	}
	if c.Amount != nil {
		set("amountFen", long(*c.Amount))
	}
	text("purse", c.Purse)
	text("terminal", c.Terminal)
	text("profile", c.Profile)
	text("algorithm", c.Algorithm)
	set("permanent", types.Boolean(c.Permanent))
	if !c.Time.IsZero() {
		set("time", types.NewDatetime(c.Time))
		year, month, day := c.Time.Date()
		set("date", types.Long(year*10000+int(month)*100+day))
		set("hour", types.Long(c.Time.Hour()))
		set("weekday", types.Long(weekday(c.Time)))
	}
	return m
}

// weekday is 1 on Monday to 7 on Sunday, as ISO 8601 counts.
func weekday(t time.Time) int {
	if d := int(t.Weekday()); d != 0 {
		return d
	}
	return 7
}
