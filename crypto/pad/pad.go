// Package pad is the two paddings of EPURSE.md: "80 then zeros, always" for MACs (§4; ISO/IEC 9797-1 method 2) and "80 then
// zeros only when not whole" for encrypted data (§6).
//
// Both always return fresh memory: a caller's spare capacity is never written, so that padding a slice of a longer buffer
// cannot damage what follows it.
package pad

// Always appends 80 and then zeros up to a multiple of size bytes; a whole message grows by one block (ISO/IEC 9797-1
// method 2). It panics when size is not positive.
func Always(data []byte, size int) []byte {
	return Append(make([]byte, 0, len(data)+size), data, size)
}

// Append is Always onto dst, for callers that own a scratch buffer: it appends data and its padding and returns the
// extended slice.
func Append(dst, data []byte, size int) []byte {
	dst = append(append(dst, data...), 0x80)
	for n := len(data) + 1; n%size != 0; n++ {
		dst = append(dst, 0)
	}
	return dst
}

// Partial pads as Always does, but leaves a whole number of blocks as it is (EPURSE.md §6). It is ambiguous by itself:
// the card finds the end by the leading length byte.
func Partial(data []byte, size int) []byte {
	if len(data)%size == 0 {
		return append([]byte(nil), data...)
	}
	return Always(data, size)
}
