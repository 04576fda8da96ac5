package store

import "errors"

// engine is what differs between the databases under a group commit: one writing connection and its transactions, one at a time. Only
// the writer's goroutine uses it. Its errors are of the transaction; those that are one of the errors below say what is to be done.
type engine interface {
	// begin begins a group's transaction, and connects where there is no connection.
	begin() (connection, error)
	// commit ends the transaction. On nil it is durable, on errUnknown it may be, and else it is not.
	commit() error
	// rollback ends a transaction that failed or whose commit did. It may fail by itself, and then the connection is given up.
	rollback()
	// connections counts the connections that there were: another number says that the server may be another too.
	connections() int
	// reach connects again after errAway.
	reach() error
	// resolve says, after errUnknown, whether that transaction was committed, by reading. It is called until it has no error, and then
	// what it says stays true whatever is still on its way to the database.
	resolve() (committed bool, err error)
	close() error
}

// connection is the writing connection inside a group's transaction. What is read and written may wait and go to the database together;
// the errors then come later.
type connection interface {
	// read asks, with rows of values one after the other, and calls scan for each row found, at the latest in answered.
	read(s *statement, values []any, scan func(scanner) error) error
	// write executes the statement on rows of values, of none where it takes none.
	write(s *statement, values []any) error
	// answered returns when all that was asked is scanned.
	answered() error
	// row and exec run a text with its arguments at once, after all that waits. An error of the database fails the transaction.
	row(text string, arguments ...any) scanner
	exec(text string, arguments ...any) (rows int64, err error)
}

// What an engine's errors say beside their text.
var (
	// errAgain: nothing is committed, and the same again may succeed, decided anew on what is there then.
	errAgain = errors.New("the transaction must be tried again")
	// errUnknown: the commit was sent, and no answer came.
	errUnknown = errors.New("whether the commit succeeded is not known")
	// errAway: the database cannot be reached. Nothing is committed.
	errAway = errors.New("the database is away")
)
