package store

import (
	"fmt"
	"strings"
)

// dialect is how a database takes the SQL of this package, which is written as SQLite takes it. It makes the texts of PostgreSQL by the
// three rules below, so that one text says what both do; the schema alone is written twice (migrations).
type dialect int

const (
	sqlite dialect = iota
	postgres
)

// sql is a text with its placeholders as the database names them: ? in SQLite, $1, $2 … in PostgreSQL. No text here has a ? in quotes.
func (d dialect) sql(text string) string {
	if d == sqlite || !strings.Contains(text, "?") {
		return text
	}
	var b strings.Builder
	for n, part := range strings.Split(text, "?") {
		if n > 0 {
			fmt.Fprintf(&b, "$%d", n)
		}
		b.WriteString(part)
	}
	return b.String()
}

// unindexed is a column whose index is not to be used: a plus before it keeps SQLite from choosing it. PostgreSQL knows how many rows there
// are, and chooses by that.
func (d dialect) unindexed(column string) string {
	if d == sqlite {
		return "+" + column
	}
	return column
}

// kindsOf are the types of a statement's columns in PostgreSQL.
var kindsOf = map[byte]string{'i': "bigint", 't': "text", 'b': "boolean"}

// grouped is the text of a group's statement for PostgreSQL: its rows are arrays, one a column, so that one prepared text takes any number of
// them. SQLite's CROSS JOIN … ON, a join whose order is kept, is a plain join. The audit head's row is locked where it is read.
func grouped(s *statement) string {
	text := strings.ReplaceAll(s.text, "CROSS JOIN", "JOIN")
	if s.locks {
		text += " FOR UPDATE"
	}
	if !s.takesRows() {
		return postgres.sql(text)
	}
	arrays := make([]string, s.width())
	for i := range arrays {
		arrays[i] = fmt.Sprintf("$%d::%s[]", i+1, kindsOf[s.kinds[i]])
	}
	return strings.Replace(text, "VALUES %s", "SELECT * FROM unnest("+strings.Join(arrays, ", ")+")", 1)
}
