// Package custody is the keys in the hands of officers: what keys there are, who may change that, and how a change comes about
// (DESIGN, §7).
//
// # The catalogue
//
// A [Catalogue] is all that officers decide on, as one value: officers and quorum, key sets with their keys, transport keys, the
// backup key. It is kept as one document with a revision that rises by one with each change; every node works by the newest. It holds no
// key: a master is in the token, and here only what finds it and what it must be, and its copy wrapped under the backup key.
//
// # A change
//
//	propose   an officer, by certificate: canonical bytes with a random id, an expiry, and a digest of what the change is about
//	approve   other officers, each with an SSH signature over exactly those bytes
//	execute   when the quorum is there: what the token has to do, then the new revision
//
// [Catalogue.Propose] and [Catalogue.Apply] are the rules, and pure: clock, randomness and what the token made come in as arguments.
package custody
