// Package softcard is a wallet card in software: it speaks the APDUs of EPURSE.md §5 and §6 and keeps the duties of §5.6,
// in both suites, for tests, demonstrations and clients that have no reader at hand. It is no secure element: its keys are
// test keys, in ordinary memory.
//
//	card, err := softcard.Personalise(softcard.Options{…})
//	answer := card.Transmit(apdu)          // data and status word, or nothing when the power is lost
//
// A card has two purses, ED and EP, each with its balance and counters; one transaction at a time, forgotten by the next
// INITIALIZE, by SELECT and by Reset; a transaction log; the last prove of each transaction type; a PIN; keys; files.
//
// What outlives the power is one value, which a command replaces in one step: see Card.TearAt. Card.Snapshot writes it,
// Restore makes a card of it.
//
// A [Module] is a secure module in software: of a reader that keeps keys, or of a terminal (EPURSE.md §7).
//
// It is the other side of the wire, so it shares no MAC path with the host: of this project it uses the bare constructions
// of crypto and the types and parsers of purse, and lays out and computes every MAC itself.
package softcard
