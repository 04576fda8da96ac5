package custody

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// leastRSA is the least length of an officer's RSA key in bits.
const leastRSA = 2048

// maxSignature bounds an armoured signature in bytes: one of RSA 16384 has fewer.
const maxSignature = 8 << 10

// keyTypes are the types of officers' keys. DSA and certificates are none.
var keyTypes = map[string]bool{
	ssh.KeyAlgoED25519: true, ssh.KeyAlgoECDSA256: true, ssh.KeyAlgoECDSA384: true, ssh.KeyAlgoECDSA521: true, ssh.KeyAlgoRSA: true,
	ssh.KeyAlgoSKED25519: true, ssh.KeyAlgoSKECDSA256: true,
}

// ParseOfficerKey reads an officer's public key, "TYPE BASE64" as in authorized_keys, without options and without a comment, and only as it
// would be written: one key has one text.
func ParseOfficerKey(text string) (ssh.PublicKey, error) {
	key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	switch {
	case err != nil:
		return nil, fmt.Errorf("officer key: %w", err)
	case comment != "" || len(options) > 0 || len(rest) > 0 || OfficerKeyText(key) != text:
		return nil, errors.New(`officer key: expected "TYPE BASE64", without options, comment or anything else`)
	case !keyTypes[key.Type()]:
		return nil, fmt.Errorf("officer key: type %s: expected ed25519, ecdsa, rsa, or a security key's", key.Type())
	}
	if long, ok := key.(ssh.CryptoPublicKey); ok && key.Type() == ssh.KeyAlgoRSA {
		if k, ok := long.CryptoPublicKey().(*rsa.PublicKey); !ok || k.N.BitLen() < leastRSA {
			return nil, fmt.Errorf("officer key: an RSA key has at least %d bits", leastRSA)
		}
	}
	return key, nil
}

// bare is the public key that signatures are verified with, whatever its type calls it: who has the private half of an ed25519 key signs as a
// security key of the same point too, of any application.
func bare(key ssh.PublicKey) (string, error) {
	crypto, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return "", fmt.Errorf("officer key: type %s: its public key cannot be read", key.Type())
	}
	der, err := x509.MarshalPKIXPublicKey(crypto.CryptoPublicKey())
	return string(der), err
}

// OfficerKeyText is the one text of a key that ParseOfficerKey reads.
func OfficerKeyText(key ssh.PublicKey) string {
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(key)), "\n")
}

// ReadPublicKey reads the public key in a file as ssh-keygen writes it, "TYPE BASE64 [COMMENT]", and returns its one text.
func ReadPublicKey(file []byte) (text string, err error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey(file)
	switch {
	case err != nil:
		return "", fmt.Errorf("public key: %w", err)
	case len(options) > 0 || len(bytes.TrimSpace(rest)) > 0:
		return "", errors.New("public key: expected one key without options")
	}
	text = OfficerKeyText(key)
	_, err = ParseOfficerKey(text)
	return text, err
}

// takesShares reports whether a share can be encrypted to the officer: to its recipient, or to an SSH key that age encrypts to.
func (o Officer) takesShares() bool {
	return o.Recipient != "" || strings.HasPrefix(o.Key, ssh.KeyAlgoED25519+" ") || strings.HasPrefix(o.Key, ssh.KeyAlgoRSA+" ")
}

// VerifyApproval verifies an armoured signature of `ssh-keygen -Y sign -n pursekeeper-change@v1` over the bytes of a change, by an officer's
// key as the catalogue has it. It answers the signature in the one form that the record keeps. Of a security key the presence of its owner must be
// signed. Every failure is ErrSignature.
func VerifyApproval(body []byte, officerKey string, armoured []byte) (canonical []byte, err error) {
	key, err := ParseOfficerKey(officerKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	signature, err := parseSignature(armoured)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if err := sshsig.Verify(bytes.NewReader(body), signature, key, signature.HashAlgorithm, Namespace); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if isSecurityKey(key) && !userPresent(signature.Signature.Rest) {
		return nil, fmt.Errorf("%w: the security key did not see its owner", ErrSignature)
	}
	return sshsig.Armor(signature), nil
}

func parseSignature(armoured []byte) (*sshsig.Signature, error) {
	if len(armoured) > maxSignature {
		return nil, fmt.Errorf("%d bytes, expected at most %d", len(armoured), maxSignature)
	}
	text := bytes.TrimSpace(armoured)
	block, rest := pem.Decode(text)
	if block == nil || block.Type != sshsig.PEMType || len(block.Headers) > 0 || len(rest) > 0 ||
		!bytes.HasPrefix(text, []byte("-----BEGIN "+sshsig.PEMType+"-----")) {
		return nil, fmt.Errorf("expected one armoured %s and nothing else", sshsig.PEMType)
	}
	signature, err := sshsig.ParseSignature(block.Bytes)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(signature.Marshal(), block.Bytes) {
		return nil, ErrNotCanonical
	}
	return signature, nil
}

func isSecurityKey(key ssh.PublicKey) bool {
	return key.Type() == ssh.KeyAlgoSKED25519 || key.Type() == ssh.KeyAlgoSKECDSA256
}

// userPresent reads what follows a security key's signature (PROTOCOL.u2f of OpenSSH): flags, of which bit 0 is the user's presence, and a
// counter of four bytes. Both are under the signature.
func userPresent(rest []byte) bool { return len(rest) == 5 && rest[0]&1 != 0 }

// Fingerprint is the officer's key's, as ssh-keygen -l prints it.
func (o Officer) Fingerprint() string { return fingerprint(o.Key) }

func fingerprint(text string) string {
	key, err := ParseOfficerKey(text)
	if err != nil {
		return "not a key"
	}
	return ssh.FingerprintSHA256(key)
}
