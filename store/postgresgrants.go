package store

import _ "embed"

// Grants is what a role must be allowed of a schema that is there, to run a signer: SQL, in which the role is named pursekeeper.
//
//go:embed grants.sql
var Grants string
