package shamir

// GF(2⁸) with the polynomial x⁸+x⁴+x³+x+1, the field of AES. Nothing here takes a branch or a place in a table by a secret.

// reduction is what x⁸ becomes.
const reduction = 0x1B

// mul multiplies: each bit of b takes or leaves a times its power of x, by a mask.
func mul(a, b byte) (product byte) {
	for range 8 {
		product ^= a & -(b & 1)
		a = a<<1 ^ reduction&-(a>>7)
		b >>= 1
	}
	return product
}

// inverse is a²⁵⁴, which is 1/a, and 0 of 0.
func inverse(a byte) byte {
	result := byte(1)
	for range 7 { // 254 is 2 + 4 + … + 128
		a = mul(a, a)
		result = mul(result, a)
	}
	return result
}

// evaluate writes p(x) for every byte of the secret. coefficients are rows as long as out, the constant one first.
func evaluate(x byte, coefficients []byte, out []byte) {
	clear(out)
	for row := len(coefficients) - len(out); row >= 0; row -= len(out) {
		for i, c := range coefficients[row : row+len(out)] {
			out[i] = mul(out[i], x) ^ c
		}
	}
}

// weight is what the value at points[at] counts for in p(0): the product of x/(x-x') over the other points, all of them different and none
// of them 0. The points are public.
func weight(points []byte, at int) byte {
	w := byte(1)
	for i, x := range points {
		if i != at {
			w = mul(w, mul(x, inverse(x^points[at])))
		}
	}
	return w
}
