package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// readTries is more than the connections that lie ready for reads: each of them may be of a server that was started anew since.
const readTries = 6

// again reads, and reads again where the connection that it got was one of a session that is over. Reading twice does no harm.
func (s *Database) again(ctx context.Context, read func() error) (err error) {
	for range readTries {
		if err = read(); s.dialect == sqlite || ctx.Err() != nil || !isOver(err) {
			return err
		}
	}
	return err
}

// isOver says that a connection was there and is no more; where none could be made, none is tried again.
func isOver(err error) bool {
	var said *pgconn.PgError
	var none *pgconn.ConnectError
	var broken net.Error
	switch {
	case err == nil, errors.As(err, &none):
		return false
	case errors.As(err, &said):
		return severity(said) != "ERROR"
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken)
}

// oneRow is a query of one row, asked by Scan.
type oneRow struct {
	s         *Database
	ctx       context.Context
	text      string
	arguments []any
}

// row asks for one row outside the group commit.
func (s *Database) row(ctx context.Context, text string, arguments ...any) scanner {
	return oneRow{s, ctx, s.dialect.sql(text), arguments}
}

func (r oneRow) Scan(into ...any) error {
	return r.s.again(r.ctx, func() error { return r.s.readers.QueryRowContext(r.ctx, r.text, r.arguments...).Scan(into...) })
}

// page calls scan for each row of a query, in its order. begin is called before the first, and again where the page is read again.
func (s *Database) page(ctx context.Context, text string, arguments []any, begin func(), scan func(*sql.Rows) error) error {
	text = s.dialect.sql(text)
	return s.again(ctx, func() error {
		begin()
		rows, err := s.lists.QueryContext(ctx, text, arguments...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}
