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
	header, err := MasterHeader(spec, kver, transport)
	if err != nil {
		return "", fmt.Errorf("export %q: %w", spec.Label, err)
	}
	key, err := t.openCopy(ctx, "export", spec, under, wrapped)
	if err != nil {
		return "", err
	}
	defer key.Wipe()
	return WrapKeyBlock(ctx, transport, header, key)
}

// CopyAnew makes a copy under another backup key of the copy that there is, when the backup key is replaced. Errors, and where the key is, as
// of ExportKeyBlock.
func (t *Token) CopyAnew(ctx context.Context, spec KeySpec, from Backup, wrapped Wrapped, to Backup) (Wrapped, error) {
	if to.none {
		return nil, fmt.Errorf("copy anew %q: %w", spec.Label, ErrNoBackup)
	}
	key, err := t.openCopy(ctx, "copy anew", spec, from, wrapped)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	var ciphertext []byte
	err = t.onAdmin(context.WithoutCancel(ctx), fmt.Sprintf("copy anew %q", spec.Label), func(g *generation, s *session) error {
		wraps, err := g.findBackup(s, to)
		if err == nil {
			ciphertext, err = wraps.wrap(s, key)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return newWrapped(&spec, to, ciphertext), nil
}

// openCopy opens a copy into locked memory, and holds it against the spec; the caller wipes it.
func (t *Token) openCopy(ctx context.Context, op string, spec KeySpec, under Backup, wrapped Wrapped) (key secret.Bytes, err error) {
	if under.none {
		return key, fmt.Errorf("%s %q: %w", op, spec.Label, ErrNoBackup)
	}
	ciphertext, err := wrapped.open(&spec, under)
	if err != nil {
		return key, fmt.Errorf("%s %q: %w", op, spec.Label, err)
	}
	var opened secret.Bytes // set by the job, which is over when onAdmin returns, or hangs for ever
	err = t.onAdmin(context.WithoutCancel(ctx), fmt.Sprintf("%s %q", op, spec.Label), func(g *generation, s *session) error {
		opens, err := g.findBackup(s, under)
		if err == nil {
			opened, err = opens.unwrap(s, ciphertext)
		}
		return err
	})
	if err != nil {
		return key, err
	}
	if err := checkMaster(&spec, opened); err != nil {
		opened.Wipe()
		return key, fmt.Errorf("%s %q: %w", op, spec.Label, err)
	}
	return opened, nil
}
