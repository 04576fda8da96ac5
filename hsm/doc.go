// Package hsm keeps master keys in a PKCS#11 token and lends them as [keyderive.Key]. It is the only importer of the PKCS#11
// binding, and the place where the ten rules of DESIGN §5 are kept:
//
//	rule 1   module.go                one owner of the loaded module
//	rule 2   start.go, login.go       one login per generation, by the keeper, on the anchor session
//	rule 3   session.go, worker.go    a session serves one call at a time; discarded by return code
//	rule 4   keeper.go                recovery: reopen, then finalize and initialize; a new generation each time; the breaker
//	rule 5   login.go, keeper.go      the PIN latch
//	rule 6   lookup.go, loan.go       a lookup yields exactly one object; card keys die in the loan that made them
//	rule 7   job.go, watch.go         calls in flight, waiters and hanging calls are bounded; exit 75
//	rule 8   selftest.go, entry.go    known-answer and check-value tests before traffic
//	rule 9   worker.go                discarded sessions are not closed, finalize frees them
//	rule 10  cryptoki.go, lookup.go   lengths are checked; zero or two matches are errors
//
// # Moving parts
//
//	caller ── Key.Lend ──▶ queue ──▶ worker 1 ── session 1 ──┐
//	                         │   └─▶ worker 2 ── session 2 ──┼──▶ the module
//	                         └─────▶ anchor ──── session 0 ──┘    login, issuer levels, making keys
//	keeper: starts a generation, recovers, latches       watcher: writes hanging calls off
//
// A generation is one login with all that hangs on it: the sessions, the handles of the masters, the derived keys of the issuer
// levels. When the token answers that something of it is gone, the generation ends: who waits gets [ErrUnavailable] at once, the
// calls inside come out, and the keeper starts the next one.
//
// # Where key bytes are
//
// TOKEN: never in the process. CARD: the card key, in locked memory, from C_Encrypt to the end of the Lend. PROCESS: the master
// too, from C_Decrypt to the end of the Lend. The expanded schedule of a cipher in memory is in ordinary Go memory until it is
// collected ([keyderive.InMemory]). Makings and restores (make.go): not at all where the token has what it takes; else the master, in locked
// memory, for the time of one job. A master that comes or goes in a key block: in locked memory for that moment, with the two keys that
// are made of the transport key's CMACs ([UnwrapMaster]). The PIN is in locked memory until C_Login returns.
package hsm
