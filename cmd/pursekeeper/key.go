package main

// keyCmd is what officers and auditors see of keys, and the changes of them that officers propose most.
type keyCmd struct {
	List  keyListCmd  `cmd:"" help:"List the keys of the running service: state, boundary, check value, dates, and what was found out about each."`
	Due   keyDueCmd   `cmd:"" help:"List the keys whose cryptoperiod ends, or has ended."`
	Check keyCheckCmd `cmd:"" help:"Compare the catalogue with the token: every check value anew, every difference named."`

	Rotate     keyRotateCmd     `cmd:"" help:"Propose the next versions of keys, made in the token, which become active at a time."`
	Activate   keyActivateCmd   `cmd:"" help:"Propose that keys sign."`
	Deactivate keyDeactivateCmd `cmd:"" help:"Propose that keys sign no more; they verify what they signed."`
	Suspend    keySuspendCmd    `cmd:"" help:"Propose that keys do nothing until they are resumed."`
	Resume     keyResumeCmd     `cmd:"" help:"Propose that suspended keys sign again."`
	Compromise keyCompromiseCmd `cmd:"" help:"Propose to say that others may have keys; what they verify is flagged."`
	Destroy    keyDestroyCmd    `cmd:"" help:"Propose that keys are destroyed in the token, for ever."`
}
