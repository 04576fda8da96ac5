// Package keyblock is the X9.143 (TR-31) key block: one key, encrypted, and bound by a MAC to a header in clear that says what it is for.
// It makes and reads versions B and D; A and C, whose keys are variants of the protection key, are refused.
//
//	0    1    version         "B": 3DES protects, 16 or 24 bytes; "D": AES protects, 16, 24 or 32 bytes
//	1    4    length          of the whole text, decimal
//	5    2    key usage       such as "E6"
//	7    1    algorithm       of the key inside: "T", "A", or "4" (our own, see Purse)
//	8    1    mode of use     such as "X", derive only
//	9    2    key version     "00" is none
//	11   1    exportability   "E", "N" or "S"
//	12   2    optional blocks their number, decimal
//	14   2    reserved        "00"
//	16   …    optional blocks each: id (2) | length of it all (2, hex) | data; the last is PB where the header has to be filled up
//	…    …    the payload     upper-case hex of the CBC encryption of: length of the key in bits (2 bytes) | key | padding
//	…    16   the MAC         upper-case hex; 32 digits of version D
//
// Both keys that do the work are derived of the protection key by CMAC, and that is all that is asked of it ([Protector]): the
// encryption key KBEK, and the authentication key KBAK. The MAC is the CMAC under KBAK over the header as it stands and the payload in
// clear; it is the IV of the encryption too. So the payload is decrypted before its MAC can be compared, and nothing in it is
// looked at before it was.
//
// What is read is canonical: there is one text for a header, a key and a padding, and Unwrap takes no other. Errors of the text are
// [FieldError], which names the field and its place.
//
// # Where key bytes are
//
// KBEK and KBAK, the clear payload and the key taken out of it lie in locked memory, and are wiped before the call returns but for
// what it returns, which is the caller's to wipe. The expanded schedules of KBEK and KBAK lie in ordinary Go memory until they are
// collected, as everywhere where a cipher runs in the process.
package keyblock
