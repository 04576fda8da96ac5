package hsm

import (
	"context"
	"crypto/aes"
	"errors"
	"fmt"

	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// ExportKeyBlock makes the key block in which a master moves to another token, of the copy that is kept under a backup key: the master itself
// does not leave its token, and the backup key in the token opens nothing, so its bytes are brought by those who keep them. They stay the
// caller's, who wipes them. A copy of another key, or not whole, is ErrWrapped, and one with another check value ErrKCVMismatch. The
// master is in locked memory while the block is made, for the block's payload is more than the key and has to be built there.
func ExportKeyBlock(ctx context.Context, spec KeySpec, backupKey secret.Bytes, wrapped Wrapped, transport keyblock.Protector, kver byte) (string, error) {
	header, err := MasterHeader(spec, kver, transport)
	if err != nil {
		return "", fmt.Errorf("export %q: %w", spec.Label, err)
	}
	key, err := openCopy(spec, backupKey, wrapped)
	if err != nil {
		return "", fmt.Errorf("export %q: %w", spec.Label, err)
	}
	defer key.Wipe()
	return WrapKeyBlock(ctx, transport, header, key)
}

// CopyAnew makes a copy under another backup key, of the token, of the copy that there is, when the backup key is replaced. Errors, and where
// the keys are, as of ExportKeyBlock.
func (t *Token) CopyAnew(ctx context.Context, spec KeySpec, backupKey secret.Bytes, wrapped Wrapped, to Backup) (Wrapped, error) {
	if to.none {
		return nil, fmt.Errorf("copy anew %q: %w", spec.Label, ErrNoBackup)
	}
	key, err := openCopy(spec, backupKey, wrapped)
	if err != nil {
		return nil, fmt.Errorf("copy anew %q: %w", spec.Label, err)
	}
	g, err := t.generation()
	if err != nil {
		key.Wipe()
		return nil, err
	}
	op := fmt.Sprintf("copy anew %q", spec.Label)
	var ciphertext []byte // read when the job has ended well alone: one that hangs outlasts this call
	j := newJob(func(s *session) (result, fault error) {
		wraps, fault := g.findBackup(s, to)
		if fault == nil {
			ciphertext, fault = wraps.wrap(s, key)
		}
		return publicError(op, fault), fault
	})
	j.released = func() { key.Wipe() }
	if err := g.do(ctx, g.admin, j); err != nil {
		return nil, err
	}
	return newWrapped(&spec, to, ciphertext), nil
}

// openCopy opens a copy into locked memory, and holds it against the spec; the caller wipes it. The backup key's expanded schedule is in ordinary
// Go memory until it is collected.
func openCopy(spec KeySpec, backupKey secret.Bytes, wrapped Wrapped) (key secret.Bytes, err error) {
	ciphertext, err := wrapped.open(&spec, backupKey)
	if err != nil {
		return key, err
	}
	block, err := aes.NewCipher(backupKey.Reveal("to open a copy"))
	if err != nil {
		return key, err
	}
	key, err = keyUnwrap(func(in, out []byte) error { block.Decrypt(out, in); return nil }, ciphertext)
	if errors.Is(err, errUnwrap) {
		err = fmt.Errorf("%w: %w", ErrWrapped, err)
	}
	if err != nil {
		return key, err
	}
	if err := checkMaster(&spec, key); err != nil {
		key.Wipe()
		return secret.Bytes{}, err
	}
	return key, nil
}
