package store

import "fmt"

// arguments are a statement's values for PostgreSQL: as they are where its text has placeholders, and one array a column where it takes rows.
func (s *statement) arguments(values []any) ([]any, error) {
	width := s.width()
	if width == 0 || !s.takesRows() {
		return values, nil
	}
	rows := len(values) / width
	columns := make([]any, width)
	for c, kind := range []byte(s.kinds) {
		var err error
		switch kind {
		case 'i':
			columns[c], err = column(values, c, width, rows, whole)
		case 't':
			columns[c], err = column(values, c, width, rows, as[string])
		case 'b':
			columns[c], err = column(values, c, width, rows, as[bool])
		}
		if err != nil {
			return nil, fmt.Errorf("bug: value %d of a row of %q: %w", c, s.text, err)
		}
	}
	return columns, nil
}

func column[T any](values []any, c, width, rows int, of func(any) (T, bool)) ([]T, error) {
	all := make([]T, rows)
	for r := range rows {
		value, ok := of(values[r*width+c])
		if !ok {
			return nil, fmt.Errorf("it is a %T", values[r*width+c])
		}
		all[r] = value
	}
	return all, nil
}

func as[T any](value any) (T, bool) {
	t, ok := value.(T)
	return t, ok
}

func whole(value any) (int64, bool) {
	switch n := value.(type) {
	case int:
		return int64(n), true
	case int64:
		return n, true
	}
	return 0, false
}
