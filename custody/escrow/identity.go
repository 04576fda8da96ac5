package escrow

import (
	"bytes"
	"errors"
	"fmt"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// ErrIdentityFile: a file is no identity that a share could be opened by.
var ErrIdentityFile = errors.New("no age identity file and no SSH private key")

// ReadIdentities reads an officer's identity file: of age, or an SSH private key. passphrase is asked when the key has one; it owns nothing
// afterwards, for the library keeps what it answers. An identity is in ordinary Go memory until it is collected, as age and Go's SSH keep it.
func ReadIdentities(content []byte, passphrase func() ([]byte, error)) ([]age.Identity, error) {
	if !bytes.Contains(content, []byte("PRIVATE KEY-----")) {
		identities, err := age.ParseIdentities(bytes.NewReader(content))
		if err != nil {
			return nil, ErrIdentityFile // the library's error could quote the file
		}
		return identities, nil
	}
	identity, err := agessh.ParseIdentity(content)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if locked.PublicKey == nil {
			return nil, errors.New("an SSH private key with a passphrase in an old format: ssh-keygen -p writes it anew")
		}
		identity, err = agessh.NewEncryptedSSHIdentity(locked.PublicKey, bytes.Clone(content), passphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("SSH private key: %w", err)
	}
	return []age.Identity{identity}, nil
}
