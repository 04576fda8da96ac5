package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pursekeeper/pursekeeper/crypto/shamir"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// shareFlags say how a backup key comes back: by the officers who are there, or by Vault.
type shareFlags struct {
	ShareIdentity []string `help:"An officer's identity, which opens a share: an age identity file, or an SSH private key. Once for each officer." type:"existingfile" placeholder:"FILE"`
	TypeShares    bool     `help:"Ask at the terminal for shares that officers have decrypted themselves, until there are enough."`
	vaultFlag     `embed:""`
}

// seed collects shares of a backup key until there are enough. The caller wipes the seed.
func (c shareFlags) seed(ctx context.Context, backup custody.Backup) (seed secret.Bytes, err error) {
	if c.Vault != "" {
		if len(c.ShareIdentity) > 0 || c.TypeShares {
			return seed, errors.New("--vault: either Vault has the backup key, or officers have")
		}
		return c.vaultFlag.seed(ctx, backup)
	}
	var shares []shamir.Share
	defer func() {
		for i := range shares {
			shares[i].Wipe()
		}
	}()
	for _, path := range c.ShareIdentity {
		holder, share, err := openShare(ctx, backup, path)
		if err != nil {
			return seed, fmt.Errorf("--share-identity %s: %w", path, err)
		}
		shares = append(shares, share)
		fmt.Printf("%v, of %s\n", share, holder)
	}
	for c.TypeShares && len(shares) < backup.Threshold {
		share, err := typeShare(ctx, len(shares)+1, backup.Threshold)
		if err != nil {
			return seed, err
		}
		shares = append(shares, share)
		fmt.Printf("%v\n", share)
	}
	return escrow.Combine(backup, shares)
}

// openShare opens an officer's share with the identity in a file. The caller wipes the share.
func openShare(ctx context.Context, backup custody.Backup, path string) (holder string, share shamir.Share, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", share, err
	}
	defer clear(content)
	identities, err := escrow.ReadIdentities(content, func() ([]byte, error) { return askPassphrase(ctx) })
	if err != nil {
		return "", share, err
	}
	return escrow.OpenShare(backup, identities...)
}

// askPassphrase asks at the terminal. The library takes a slice of its own, which it keeps.
func askPassphrase(ctx context.Context) ([]byte, error) {
	screen, err := openConsole()
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	typed, err := screen.Secret(ctx, "Passphrase of the SSH key, not shown: ")
	if err != nil {
		return nil, err
	}
	defer typed.Wipe()
	return bytes.Clone(typed.Reveal("to open the officer's key with it")), screen.Show("\n")
}

// maxShareTries is how often a share may be typed.
const maxShareTries = 3

// typeShare asks for a share that its officer decrypted; the caller wipes it.
func typeShare(ctx context.Context, n, threshold int) (share shamir.Share, err error) {
	screen, err := openConsole()
	if err != nil {
		return share, err
	}
	for range maxShareTries {
		typed, err := screen.Secret(ctx, fmt.Sprintf("Share %d of %d that are needed, beginning with PKS, not shown: ", n, threshold))
		if err != nil {
			return share, err
		}
		share, err = shamir.Parse(typed.Reveal("to read the share"))
		typed.Wipe()
		if err == nil {
			return share, screen.Show("\n")
		}
		if err := screen.Show(fmt.Sprintf("\nNot taken: %v\n", err)); err != nil {
			return share, err
		}
	}
	return share, fmt.Errorf("a share was typed wrong %d times", maxShareTries)
}
