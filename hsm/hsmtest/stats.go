package hsmtest

// Stats is what the fault module counted since the token was made, over all processes that use it. The first three break
// rules of DESIGN §5, and are 0 in a service that keeps them.
type Stats struct {
	FinalizeWhileBusy uint64 // C_Finalize and another call inside the library at once, each pair once
	CloseWhileBusy    uint64 // the same for C_CloseSession and C_CloseAllSessions
	SessionShared     uint64 // calls on a session that had one running

	Calls       uint64 // of all functions
	Logins      uint64 // C_Login, whatever the answer
	PINRefused  uint64 // C_Login answered that the PIN is wrong, malformed or locked
	Opened      uint64 // C_OpenSession
	Closed      uint64 // C_CloseSession
	Searches    uint64 // C_FindObjectsInit
	MaxInFlight uint64 // most calls inside the library at once, of the process that had most
	Losses      uint64 // times that a process lost its sessions
	Hanging     uint64 // calls that hang now; a process that was killed takes its own out of no count
}

// Stats reads the counters, one after the other: calls that run meanwhile may be in some and not in others.
func (c *Control) Stats() Stats {
	return Stats{
		FinalizeWhileBusy: c.words[wordFinalizeBusy].Load(),
		CloseWhileBusy:    c.words[wordCloseBusy].Load(),
		SessionShared:     c.words[wordSessionShared].Load(),
		Calls:             c.Calls(EveryFunction),
		Logins:            c.Calls("C_Login"),
		PINRefused:        c.words[wordPINRefused].Load(),
		Opened:            c.Calls("C_OpenSession"),
		Closed:            c.Calls("C_CloseSession"),
		Searches:          c.Calls("C_FindObjectsInit"),
		MaxInFlight:       c.words[wordMaxInFlight].Load(),
		Losses:            c.words[wordLossesDone].Load(),
		Hanging:           c.words[wordHanging].Load(),
	}
}
