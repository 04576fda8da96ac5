// Package hsmtest is the test token of DESIGN §5: a fresh SoftHSM token for one test, and before it, where a test asks for one, a
// PKCS#11 module of our own that forwards every call and adds faults.
//
//	token := hsmtest.NewToken(t)                 // plain SoftHSM
//	token, control := hsmtest.NewFaultToken(t)   // the fault module before it
//	control.Set(hsmtest.Fault{Function: "C_DeriveKey", From: 3, To: 3, Code: pkcs11.CKR_DEVICE_ERROR})
//
// # One module per process
//
// SoftHSM reads SOFTHSM2_CONF at C_Initialize, and a process has each module loaded once. So the launcher sets the variable in
// the process's own environment, through testing.TB.Setenv, which refuses a parallel test; and a test that loads the module
// itself finalizes it before it ends, or the next test goes on with this one's token. A test that starts the program as a
// child adds [Token.Env] to its environment instead. Several children may share a token, but they log in one after the other: SoftHSM
// answers CKR_GENERAL_ERROR to a login, or to C_GetTokenInfo, while another process logs in.
//
// # Faults
//
// The sources of the fault module are in module/, and [BuildModule] compiles them once for a user and a compiler. It forwards
// the 68 functions of PKCS#11 v2.40 to SoftHSM. A [Control] steers it while it runs, from the same process or another, through
// a file that both map; module/control.h draws its layout. What it can do: answer a code, add latency, hang, lose every
// session with its login and session objects, take the token away and bring it back. What it counts: see [Stats], the rules of
// DESIGN §5 above all. It holds back what SoftHSM would crash on (C_Finalize or the end of a session beside a running call) until
// the library is free, so that the rule's breach shows as a number and not as a dead test.
//
// Calls are calls of the C interface. The binding makes two for one Sign, Encrypt, Decrypt, WrapKey, GetAttributeValue or
// GetSlotList: one for the length, one for the answer.
//
// # Mechanisms that SoftHSM lacks
//
//	token, control := hsmtest.NewSM4Token(t)                            // SM4 and key-XOR-key derivation
//	token, control := hsmtest.NewVendorToken(t, hsmtest.Mechanisms{…})  // some of them, or a token that is stricter
//
// The same module computes them, with OpenSSL's SM4, under the numbers of [Mechanisms], which no vendor has. Keys are objects of
// the SoftHSM token, found again by the next process, with the attributes and rights that they were made with; module/mark.h says
// how. Its keys are test keys: SoftHSM behind it holds them readable. Faults and counts are as above.
package hsmtest
