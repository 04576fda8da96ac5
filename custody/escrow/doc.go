// Package escrow is how the backup key comes back when its token is lost: the seed that it is made of, the shares of the seed, and the sealed file
// that everything else is in.
//
//	seed (32 random bytes)
//	  ├─ HKDF "…wrapping key" ─▶ the backup key: AES-256, in the token, wraps and unwraps masters
//	  ├─ HKDF "…file key"     ─▶ X25519 private key; its public half, the file recipient, is in the catalogue
//	  └─ Split m of n         ─▶ shares, each encrypted to its officer
//
// The seed lives during the ceremony that makes it, and during a restore. A backup is sealed without it: to the file recipient. Anybody
// who knows that could seal a file, so a file is signed with the token's Ed25519 key too, as a signed note.
//
// # Where the seed is
//
// In locked memory. HKDF, X25519 and age work in ordinary Go memory: what they were given there is cleared by its caller where it can be reached, and
// is otherwise there until it is collected and written over. Hold both ceremonies in a process that ends afterwards, as `pursekeeper` does.
package escrow
