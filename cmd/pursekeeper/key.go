package main

// keyCmd is what officers and auditors see of keys.
type keyCmd struct {
	List  keyListCmd  `cmd:"" help:"List the keys of the running service: state, boundary, check value, dates, and what was found out about each."`
	Due   keyDueCmd   `cmd:"" help:"List the keys whose cryptoperiod ends, or has ended."`
	Check keyCheckCmd `cmd:"" help:"Compare the catalogue with the token: every check value anew, every difference named."`
}
