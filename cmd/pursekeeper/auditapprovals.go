package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
)

// auditApprovalsCmd writes the approvals of a record as files, so that ssh-keygen alone verifies them.
type auditApprovalsCmd struct {
	auditFolder
	Out string `help:"New folder for them." required:""`
}

// Run writes, for each approval, INDEX.bytes, INDEX.sig and INDEX.allowed_signers, and prints the command that verifies it. It verifies each itself, too,
// and that the officer had that key by then.
func (c *auditApprovalsCmd) Run(ctx context.Context) error {
	if err := absent(c.Out); err != nil {
		return err
	}
	if err := os.Mkdir(c.Out, 0o700); err != nil {
		return err
	}
	officers := map[string]string{} // the keys as the record has registered them so far
	proposed := map[string]custody.Change{}
	approvals, wrong := 0, 0
	err := c.each(ctx, auditFilter{}, func(index uint64, _ []byte, e audit.Entry) error {
		if e.Change == nil {
			return nil
		}
		if e.Event == audit.ChangeApproved {
			approvals++
			if err := c.write(index, *e.Change, officers); err != nil {
				wrong++
				fmt.Printf("%d  WRONG: %v\n", index, err)
			}
		}
		return register(officers, proposed, e)
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d approvals in %s, %d wrong\n", approvals, c.Out, wrong)
	if wrong > 0 {
		return errDamaged
	}
	return nil
}

// register follows who is an officer, with which key, through the record.
func register(officers map[string]string, proposed map[string]custody.Change, e audit.Entry) error {
	switch e.Event {
	case audit.OfficersRegistered:
		first, err := custody.DecodeCatalogue([]byte(e.Change.Bytes))
		if err != nil {
			return err
		}
		for _, o := range first.Officers {
			officers[o.Name] = o.Key
		}
	case audit.ChangeProposed:
		change, err := custody.DecodeChange([]byte(e.Change.Bytes))
		if err != nil {
			return err
		}
		proposed[change.ID] = change
	case audit.ChangeApplied:
		change, there := proposed[e.Change.ID]
		if !there {
			return fmt.Errorf("change %q was applied and never proposed", e.Change.ID)
		}
		if change.Officer != nil {
			delete(officers, change.Officer.Name)
			if change.Officer.Key != "" {
				officers[change.Officer.Name] = change.Officer.Key
			}
		}
	}
	return nil
}

func (c *auditApprovalsCmd) write(index uint64, a audit.Change, officers map[string]string) error {
	if _, err := custody.VerifyApproval([]byte(a.Bytes), a.OfficerKey, []byte(a.Signature)); err != nil {
		return err
	}
	change, err := custody.DecodeChange([]byte(a.Bytes))
	if err != nil {
		return err
	}
	name := filepath.Join(c.Out, fmt.Sprint(index))
	// An officer's name has no character that allowed_signers reads otherwise: DecodeChange and the office take no other.
	signers := fmt.Sprintf("%s namespaces=%q %s\n", a.Officer, custody.Namespace, a.OfficerKey)
	err = errors.Join(writeNew(name+".bytes", []byte(a.Bytes)), writeNew(name+".sig", []byte(a.Signature)), writeNew(name+".allowed_signers", []byte(signers)))
	switch {
	case err != nil:
		return err
	case change.ID != a.ID || change.Author == a.Officer:
		return fmt.Errorf("%s approved change %s of its own, or another", a.Officer, change.ID)
	case officers[a.Officer] != a.OfficerKey:
		return fmt.Errorf("%s was no officer with that key", a.Officer)
	}
	fmt.Printf("%d  %s %s by %s\n    ssh-keygen -Y verify -f %[5]s.allowed_signers -I %[4]s -n %[6]s -s %[5]s.sig < %[5]s.bytes\n",
		index, change.Act, change.ID, a.Officer, name, custody.Namespace)
	return nil
}
