package hsm

import (
	"fmt"

	"github.com/miekg/pkcs11"
)

// sealing is how a token seals masters of the PROCESS boundary: the first byte of what is at rest. The zero value is invalid.
type sealing uint8

const (
	sealGCM sealing = 1 // CKM_AES_GCM
	sealCCM sealing = 2 // AES-CCM of CKM_AES_ECB and CKM_AES_CBC, on a token without it
)

// sealing is the way of this token.
func (p Profile) sealing() sealing {
	if p.NoGCM {
		return sealCCM
	}
	return sealGCM
}

// rights are what the sealing key may do: CCM opens by encryption too.
func (v sealing) rights() rights {
	if v == sealCCM {
		return mayEncrypt
	}
	return mayEncrypt | mayDecrypt
}

// seal writes the authenticated encryption of a master over sealed, of cipherSize.
func (v sealing) seal(s *session, kek pkcs11.ObjectHandle, iv, aad, master, sealed []byte) error {
	switch v {
	case sealGCM:
		return s.seal(kek, iv, aad, master, sealed)
	case sealCCM:
		return s.encryption(kek).seal(iv, aad, master, sealed)
	}
	return v.unknown()
}

// open is the inverse. room is as long as sealed, because tokens ask for that much; the master is in front.
func (v sealing) open(s *session, kek pkcs11.ObjectHandle, iv, aad, sealed, room []byte) error {
	switch v {
	case sealGCM:
		return s.unseal(kek, iv, aad, sealed, room)
	case sealCCM:
		return s.encryption(kek).open(iv, aad, sealed, room[:aesBlock])
	}
	return v.unknown()
}

func (v sealing) unknown() error { return fmt.Errorf("sealing %d: unknown", uint8(v)) }

func (s *session) encryption(kek pkcs11.ObjectHandle) encryption {
	return func(mechanism uint, iv, in, out []byte) error { return s.encrypt(mechanism, kek, iv, in, out) }
}
