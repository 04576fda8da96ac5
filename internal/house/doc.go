// Package house holds the rules of the house that a compiler does not know, as tests over the source: which folder imports which,
// what the pure packages keep away from, where cgo may be, how long files and functions are. It has no code to use.
package house
