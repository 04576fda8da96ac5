package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/pursekeeper/pursekeeper/crypto/shamir"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
)

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
