package escrow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"

	"github.com/pursekeeper/pursekeeper/crypto/shamir"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// What a share or a set of them is refused for, beside the errors of package shamir.
var (
	ErrRecipient = errors.New("nothing can be encrypted to this key")
	ErrIdentity  = errors.New("no share is encrypted to this identity")
	ErrOtherSeed = errors.New("the shares make another backup key than the one of the file")
)

// maxShare bounds a share's text: a hundred characters.
const maxShare = 1 << 10

// RecipientOf is where an officer's shares go: the age recipient, or the SSH key. SSH keys that can only sign, of ECDSA and hardware (sk-),
// are ErrRecipient: their officer needs an age recipient.
func RecipientOf(officer custody.Officer) (text string, err error) {
	text = officer.Recipient
	if text == "" {
		text = officer.Key
	}
	if _, err := parseShareRecipient(text); err != nil {
		return "", fmt.Errorf("officer %s: %w", officer.Name, err)
	}
	return text, nil
}

func parseShareRecipient(text string) (age.Recipient, error) {
	if strings.HasPrefix(text, "age1") {
		list, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(list) != 1 {
			return nil, fmt.Errorf("%w: %q is no age recipient", ErrRecipient, text)
		}
		return list[0], nil
	}
	kind, _, _ := strings.Cut(text, " ")
	recipient, err := agessh.ParseRecipient(text)
	if err != nil {
		return nil, fmt.Errorf("%w: an SSH key of type %s, where only ssh-ed25519 and ssh-rsa can be encrypted to: give the officer an age recipient", ErrRecipient, kind)
	}
	return recipient, nil
}

// Split makes one share of the seed for each holder, any threshold of which bring it back, and encrypts each to its holder. Before a share
// is encrypted, it was part of shares that made the seed again.
func Split(random io.Reader, seed secret.Bytes, threshold int, holders []custody.Officer) ([]custody.Share, error) {
	shares, err := shamir.Split(random, seed, threshold, len(holders))
	if err != nil {
		return nil, err
	}
	defer wipe(shares)
	if err := prove(shares, threshold, seed); err != nil {
		return nil, err
	}
	sealed := make([]custody.Share, len(holders))
	for i, holder := range holders {
		recipient, err := RecipientOf(holder)
		if err != nil {
			return nil, err
		}
		text := shares[i].Encode()
		ciphertext, err := encrypt(recipient, text)
		text.Wipe()
		if err != nil {
			return nil, fmt.Errorf("share of %s: %w", holder.Name, err)
		}
		sealed[i] = custody.Share{Holder: holder.Name, Recipient: recipient, Ciphertext: ciphertext}
	}
	return sealed, nil
}

func wipe(shares []shamir.Share) {
	for i := range shares {
		shares[i].Wipe()
	}
}

// prove combines each share with the ones after it.
func prove(shares []shamir.Share, threshold int, seed secret.Bytes) error {
	ring := append(append([]shamir.Share(nil), shares...), shares...)
	for i := range shares {
		again, err := shamir.Combine(ring[i : i+threshold])
		if err != nil {
			return fmt.Errorf("prove the shares: %w", err)
		}
		same := again.Equal(seed)
		again.Wipe()
		if !same {
			return errors.New("prove the shares: they make another seed")
		}
	}
	return nil
}

// encrypt makes an armoured age file. age copies the text into a buffer of ordinary Go memory.
func encrypt(recipient string, text secret.Bytes) (string, error) {
	to, err := parseShareRecipient(recipient)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	armoured := armor.NewWriter(&out)
	w, err := age.Encrypt(armoured, to)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(text.Reveal("to encrypt a share to its holder")); err != nil {
		return "", err
	}
	if err := errors.Join(w.Close(), armoured.Close()); err != nil {
		return "", err
	}
	return out.String(), nil
}

// OpenShare finds the share that one of an officer's identities opens. The caller wipes it.
func OpenShare(backup custody.Backup, identities ...age.Identity) (holder string, share shamir.Share, err error) {
	for _, sealed := range backup.Shares {
		text, err := decrypt(sealed.Ciphertext, identities)
		var other *age.NoIdentityMatchError
		switch {
		case errors.As(err, &other):
			continue
		case err != nil:
			return "", share, fmt.Errorf("share of %s: %w", sealed.Holder, err)
		}
		share, err = shamir.Parse(text.Reveal("to read the share"))
		text.Wipe()
		return sealed.Holder, share, err
	}
	return "", share, ErrIdentity
}

func decrypt(ciphertext string, identities []age.Identity) (text secret.Bytes, err error) {
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(ciphertext)), identities...)
	if err != nil {
		return text, err
	}
	room := secret.New(maxShare)
	defer room.Wipe()
	n, err := io.ReadFull(r, room.Reveal("to read a share into it"))
	if err == nil {
		return text, fmt.Errorf("more than %d bytes", maxShare)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return text, err
	}
	return secret.Copy(bytes.TrimSuffix(room.Reveal("to take what was read")[:n], []byte("\n"))), nil
}

// Combine brings the seed back, and compares it with the file recipient of the backup. The caller wipes it.
func Combine(backup custody.Backup, shares []shamir.Share) (secret.Bytes, error) {
	seed, err := shamir.Combine(shares)
	if err != nil {
		return seed, err
	}
	if err := Prove(backup, seed); err != nil {
		seed.Wipe()
		return secret.Bytes{}, err
	}
	return seed, nil
}

// Prove refuses a seed that is not the backup's.
func Prove(backup custody.Backup, seed secret.Bytes) error {
	recipient, err := FileRecipient(seed)
	if err == nil && recipient != backup.Recipient {
		err = ErrOtherSeed
	}
	return err
}
