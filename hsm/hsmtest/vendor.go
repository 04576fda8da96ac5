package hsmtest

import (
	"fmt"
	"strings"
	"testing"
)

const vendorVariable = "PURSEKEEPER_TEST_VENDOR" // the mechanisms that the module adds: module/vendor.h

// Mechanisms are what the module adds to SoftHSM, by the numbers that a token profile would name. A number 0 leaves one out. SM4
// is its key type with at least one mechanism.
type Mechanisms struct {
	SM4KeyType uint // CKK_SM4
	SM4ECB     uint // CKM_SM4_ECB
	SM4CBC     uint // CKM_SM4_CBC
	SM4Derive  uint // CKM_SM4_ECB_ENCRYPT_DATA
	XORKeys    uint // CKM_XOR_BASE_AND_KEY: the parameter is the handle of the other key

	// Hardened makes the token refuse to derive a readable key from a sensitive one, as SoftHSM does not.
	Hardened bool
}

// AllMechanisms are all that the module can add. The numbers are of vendors' range, and of no vendor.
func AllMechanisms() Mechanisms {
	return Mechanisms{SM4KeyType: 0xF0504B01, SM4ECB: 0xF0504B11, SM4CBC: 0xF0504B12, SM4Derive: 0xF0504B13, XORKeys: 0xF0504B21}
}

// Profile is a token profile, the file that an operator would write for such a token.
func (m Mechanisms) Profile() string {
	var text strings.Builder
	fmt.Fprint(&text, "name: test\ntested: true\n")
	if m.XORKeys != 0 {
		fmt.Fprintf(&text, "xorKeys: %#x\n", m.XORKeys)
	}
	if m.SM4KeyType != 0 {
		fmt.Fprintf(&text, "sm4:\n  keyType: %#x\n  ecb: %#x\n  cbc: %#x\n", m.SM4KeyType, m.SM4ECB, m.SM4CBC)
	}
	if m.SM4Derive != 0 {
		fmt.Fprintf(&text, "  deriveEcb: %#x\n", m.SM4Derive)
	}
	return text.String()
}

// variable is the value of vendorVariable.
func (m Mechanisms) variable() string {
	hardened := 0
	if m.Hardened {
		hardened = 1
	}
	return fmt.Sprintf("%x,%x,%x,%x,%x,%x", m.SM4KeyType, m.SM4ECB, m.SM4CBC, m.SM4Derive, m.XORKeys, hardened)
}

// NewVendorToken is NewFaultToken with mechanisms that SoftHSM lacks.
func NewVendorToken(tb testing.TB, mechanisms Mechanisms, opts ...Option) (*Token, *Control) {
	tb.Helper()
	token, control := NewFaultToken(tb, opts...)
	token.setenv(tb, vendorVariable+"="+mechanisms.variable())
	token.Mechanisms = mechanisms
	return token, control
}

// NewSM4Token is NewVendorToken with AllMechanisms.
func NewSM4Token(tb testing.TB, opts ...Option) (*Token, *Control) {
	tb.Helper()
	return NewVendorToken(tb, AllMechanisms(), opts...)
}
