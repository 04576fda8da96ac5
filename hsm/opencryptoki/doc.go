// Package opencryptoki prepares software tokens of openCryptoki, the second PKCS#11 library that the signer is held against. It serves the
// tests, through hsm/hsmtest. It does not load the library and does not import the PKCS#11 binding: hsm is the only package that does
// (DESIGN §1).
//
//	Room      a process with openCryptoki's folders, shared memory and daemon to itself, for a throw-away token
//	Furnish   what openCryptoki needs, in a room
//	Start     the daemon, pkcsslotd, where none runs: in a room, or as root on a machine
//	Init      a token with a label and PINs of its own, through the daemon
//
// A token made in a room protects nothing: it is gone with the room, and before that whoever is root there has the keys.
//
// # Rooms
//
// openCryptoki's paths are compiled in, and so are the names of its lock files, its socket and its shared memory: one machine has one
// daemon and one software token. A room is a set of Linux namespaces in which all these are new and empty. Nothing of the machine's is
// changed, a daemon that runs there is not met, and any number of rooms may be there at once. It takes root, or a kernel that lets a
// user make namespaces.
//
// # What was found
//
// openCryptoki 3.8.1, as Debian 12 has it, with its software token, answers:
//
//   - It is a token of PKCS#11 v2.20. A template with CKA_COPYABLE is refused with CKR_ATTRIBUTE_TYPE_INVALID, and the attribute is
//     not known of any object; hsm leaves it out then. So whoever has the PIN may copy a master and give the copy any right, as to
//     decrypt or to wrap; a copy that is extractable or not sensitive is refused (CKR_ATTRIBUTE_READ_ONLY). hsm takes no copy for a
//     master: the label is found twice, or the rights are refused.
//   - Its list of mechanisms has none that makes a two-key DES key (CKM_DES2_KEY_GEN), and its documents know no such key: two-key DES
//     is CKK_DES3 with L, R, L. It takes a CKK_DES2 object all the same, and computes right with it. Parity is not looked at.
//   - No mechanism derives a symmetric key from another: C_DeriveKey answers CKR_MECHANISM_INVALID to encryption of data and to the
//     exclusive or. So the boundary is CARD, with issuer-level keys in locked memory too.
//   - AES is there in ECB and CBC, not in GCM (CKR_MECHANISM_INVALID): hsm seals the masters of the PROCESS boundary with CCM.
//   - CKA_CHECK_VALUE is not filled. CKA_LOCAL, CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE are.
//   - A new token has the security officer's PIN 87654321 and the user's 12345678, and says so in its flags. A PIN has 4 to 8
//     characters. A wrong one is CKR_PIN_INCORRECT. Three in a row lock the user's PIN, and the flags count them (CKF_USER_PIN_COUNT_LOW,
//     FINAL_TRY, LOCKED); then any is CKR_PIN_LOCKED. A login sets the count back.
//   - The daemon holds no key and does no cryptography. When it is killed, clients that are in go on, also when another is started. A
//     client that comes, or finalizes and initializes, is refused by C_Initialize with CKR_FUNCTION_FAILED until a daemon is
//     there, and for some milliseconds more, until it is ready, with CKR_HOST_MEMORY. No PIN is tried meanwhile.
//   - pkcsconf's exit status is 0 also where C_SetPIN failed; and it takes PINs on its standard input, by line, when no terminal is
//     there.
package opencryptoki
