package store

// For tests.
const (
	MarkGroup = markGroup
	LogMost   = logMost
)

// OpenSQLiteLog opens a database whose log is full at so many pages.
var OpenSQLiteLog = openSQLite
