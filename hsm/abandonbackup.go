package hsm

import (
	"context"
	"fmt"
	"strings"
)

// BackupKeyName is the name of a backup key whose object has the label; of any other label, the label.
func BackupKeyName(label string) string { return strings.TrimPrefix(label, backupPrefix) }

// BackupKeyLabel is the label of the object of a backup key.
func BackupKeyLabel(name string) string { return backupPrefix + name }

// AbandonBackupKey destroys a backup key that nothing was wrapped under, and looks again: one whose ceremony or restore came to nothing.
// ErrKeyNotFound is that there is none. Every copy under the key is lost with it, and no check of that is made here.
func (t *Token) AbandonBackupKey(ctx context.Context, backup string) error {
	if !signingName.MatchString(backup) {
		return fmt.Errorf("abandon backup key: name %q: expected small letters, digits and hyphens, at most 64", backup)
	}
	return t.destroyMaster(ctx, fmt.Sprintf("abandon backup key %q", backup), name{label: backupPrefix + backup}, nil)
}
