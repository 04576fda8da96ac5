package hsm

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/miekg/pkcs11"
)

// owners are the modules that this process has loaded and initialized, by resolved path (rule 1). It is the one state of this
// package, because the library's own state is the process's too. mu guards paths.
var owners = struct {
	mu    sync.Mutex
	paths map[string]bool
}{paths: map[string]bool{}}

// module is a loaded, initialized PKCS#11 library, owned by one Token.
type module struct {
	path     string
	ctx      *pkcs11.Ctx // cold calls
	cryptoki cryptoki    // calls with key bytes, and the hot path
}

// own takes ownership of the module at path, before it is loaded: to load and initialize it may take for ever.
func own(path string) (resolved string, err error) {
	resolved, err = filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("module: %w", err)
	}
	owners.mu.Lock()
	defer owners.mu.Unlock()
	if owners.paths[resolved] {
		return "", fmt.Errorf("module %q: %w", resolved, ErrOwned)
	}
	owners.paths[resolved] = true
	return resolved, nil
}

func disown(resolved string) {
	owners.mu.Lock()
	delete(owners.paths, resolved)
	owners.mu.Unlock()
}

// loadModule loads and initializes the module that own took, and gives it back when it fails. A library that somebody else in this
// process has initialized is refused: its sessions and its login would be shared with code that does not keep the rules.
func loadModule(resolved string) (m *module, err error) {
	defer func() {
		if err != nil {
			disown(resolved)
		}
	}()
	ctx := pkcs11.New(resolved)
	if ctx == nil {
		return nil, fmt.Errorf("module %q: cannot be loaded, or is no PKCS#11 module", resolved)
	}
	calls, err := loadCryptoki(resolved)
	if err == nil {
		err = ctx.Initialize()
	}
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		ctx.Destroy() // no finalize: that is the other owner's
		return nil, fmt.Errorf("module %q: %w: %w", resolved, ErrOwned, err)
	}
	if err != nil {
		ctx.Destroy()
		return nil, fmt.Errorf("module %q: %w", resolved, err)
	}
	return &module{path: resolved, ctx: ctx, cryptoki: calls}, nil
}

// reload finalizes and initializes. The caller has made sure that no call is inside the library (rule 4). An answer that it is
// initialized still means that the finalize did nothing: it is repeated once, then the error stands.
func (m *module) reload() error {
	for range 2 {
		if err := m.ctx.Finalize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
			return fmt.Errorf("finalize: %w", err)
		}
		err := m.ctx.Initialize()
		if err == nil {
			return nil
		}
		if !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
			return fmt.Errorf("initialize: %w", err)
		}
	}
	return fmt.Errorf("initialize: %w", pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED))
}

// release finalizes and gives ownership up. With a call inside that never came out, the module must be abandoned instead: it
// stays owned to the end of the process.
func (m *module) release() error {
	err := m.ctx.Finalize()
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
		err = nil
	}
	m.ctx.Destroy()
	disown(m.path)
	return err
}

// findSlot finds the one token with the label, and the state of its PIN in its flags.
func (m *module) findSlot(label string) (slot, flags uint, err error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return 0, 0, fmt.Errorf("list slots: %w", err)
	}
	found := 0
	for _, id := range slots {
		info, err := m.ctx.GetTokenInfo(id)
		if err != nil || info.Label != label {
			continue // a slot that cannot be read is another's, or ours that is away: then none is found
		}
		slot, flags = id, info.Flags
		found++
	}
	switch found {
	case 0:
		return 0, 0, fmt.Errorf("token %q in none of %d slots: %w", label, len(slots), pkcs11.Error(pkcs11.CKR_TOKEN_NOT_PRESENT))
	case 1:
		return slot, flags, nil
	}
	return 0, 0, fmt.Errorf("token %q in %d slots: %w", label, found, ErrAmbiguous)
}
