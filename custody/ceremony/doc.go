// Package ceremony is what several persons do with a key in one room, from one file that they can read before: keys typed in from components,
// components made for another party, and the record that is printed and signed at the end.
//
// A [File] is what is written, a [Plan] what is used, and [New] the only way from one to the other. [Plan.Match] holds the plan against the
// change that officers approved: what differs is an error. [Enter] and [Make] talk to the custodians, one after the other, through a
// [Screen]; they know no token and no database. What they are given goes into the token by their caller, once, at the end; whatever ends
// them before has changed nothing.
//
// # Where key bytes are
//
// A component is in locked memory from the keyboard's line on (see [Screen]), and is wiped when it has been added to the others; the sum is in
// locked memory until the caller wipes it. Check values are computed by the ciphers of the standard library and gmsm, whose expanded schedules
// lie in ordinary Go memory until they are collected. What is shown is written to the terminal straight from locked memory. The terminal
// itself keeps what it keeps: an emulator its scrollback, a serial line whatever listens on it. Hold a ceremony on the console of
// a machine that is switched off afterwards.
package ceremony
