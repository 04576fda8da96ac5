// Package opencryptoki prepares software tokens of openCryptoki, the second PKCS#11 library that the signer is held against. It serves
// tests. It does not load the library and does not import the PKCS#11 binding: hsm is the only package that does (DESIGN §1).
//
// A token made here protects nothing: whoever reads its folder and knows its PIN has the keys.
package opencryptoki
