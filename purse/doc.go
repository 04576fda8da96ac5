// Package purse is the card's byte layouts (EPURSE.md §5, §6, §9): the APDUs of the electronic passbook and purse, the
// bytes that each MAC and TAC covers, the card's answers, secure messaging, and the card profile that holds what sources
// and schemes differ about.
//
// It is pure: bytes and values in, bytes and values out, with no I/O, clock, randomness or log, and no key. Where a layout
// needs a key's work, secure messaging and cryptograms, it takes a small interface ([SecureMessenger], [MACer],
// [Encrypter]) that the key schedule implements.
//
// An online transaction goes
//
//	INITIALIZE answer ──ParseLoadInit──▶ LoadInit ──NewLoad──▶ Load ──▶ SessionInput, MAC1Data, MAC2Data, TACData, Credit
//
// and [NewLoad] and its likes are where a transaction is checked as a whole: what they return has a purse, a type and a new
// balance that fits, so the functions that lay out bytes cannot fail.
//
// Whatever is read from outside is read strictly, and a refusal is a [*FieldError] that names the field.
package purse
