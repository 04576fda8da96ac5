package hsm

import (
	"context"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// ExportKeyBlock makes the key block in which a master moves to another token, of the copy that is kept under a backup key: the master itself
// does not leave its token. A copy of another key is ErrWrapped, and one with another check value ErrKCVMismatch. The key is in locked
// memory from the opening of the copy to the making of the block, for the block's payload is more than the key and has to be built there.
//
// A caller that leaves does not shorten this: what the token opened is to be wiped by who asked for it.
func (t *Token) ExportKeyBlock(ctx context.Context, spec KeySpec, under Backup, wrapped Wrapped, transport keyblock.Protector, kver byte) (string, error) {
	ctx = context.WithoutCancel(ctx)
	if under.none {
		return "", fmt.Errorf("export %q: %w", spec.Label, ErrNoBackup)
	}
	header, err := MasterHeader(spec, kver, transport)
	if err != nil {
		return "", fmt.Errorf("export %q: %w", spec.Label, err)
	}
	ciphertext, err := wrapped.open(&spec, under)
	if err != nil {
		return "", fmt.Errorf("export %q: %w", spec.Label, err)
	}
	var key secret.Bytes // set by the job, which is over when onAdmin returns, or hangs for ever
	err = t.onAdmin(ctx, fmt.Sprintf("export %q", spec.Label), func(g *generation, s *session) error {
		opens, err := g.findBackup(s, under)
		if err == nil {
			key, err = opens.unwrap(s, ciphertext)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	defer key.Wipe()
	if err := checkMaster(&spec, key); err != nil {
		return "", fmt.Errorf("export %q: %w", spec.Label, err)
	}
	return WrapKeyBlock(ctx, transport, header, key)
}
