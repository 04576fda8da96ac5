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
// that the officer had that key by then, and that no change was applied without its quorum.
func (c *auditApprovalsCmd) Run(ctx context.Context) error {
	if err := absent(c.Out); err != nil {
		return err
	}
	if err := os.Mkdir(c.Out, 0o700); err != nil {
		return err
	}
	r := newRoll()
	approvals, applied, wrong := 0, 0, 0
	err := c.each(ctx, auditFilter{}, func(index uint64, _ []byte, e audit.Entry) error {
		if e.Change == nil {
			return nil
		}
		var err error
		switch e.Event {
		case audit.ChangeApproved:
			approvals++
			err = c.write(index, *e.Change, r)
		case audit.ChangeApplied:
			applied++
			err = r.follow(e)
		default:
			err = r.follow(e)
		}
		if err != nil {
			wrong++
			fmt.Printf("%d  WRONG: %v\n", index, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d approvals in %s, of %d changes that were applied; %d wrong\n", approvals, c.Out, applied, wrong)
	if wrong > 0 {
		return errDamaged
	}
	return nil
}

func (c *auditApprovalsCmd) write(index uint64, a audit.Change, r *roll) error {
	if _, err := custody.VerifyApproval([]byte(a.Bytes), a.OfficerKey, []byte(a.Signature)); err != nil {
		return err
	}
	change, err := custody.DecodeChange([]byte(a.Bytes))
	if err != nil {
		return err
	}
	if err := r.isOfficer(a, change); err != nil { // before its name is written anywhere
		return err
	}
	name := filepath.Join(c.Out, fmt.Sprint(index))
	// An officer's name has no character that allowed_signers reads otherwise: DecodeChange and the office take no other.
	signers := fmt.Sprintf("%s namespaces=%q %s\n", a.Officer, custody.Namespace, a.OfficerKey)
	err = errors.Join(writeNew(name+".bytes", []byte(a.Bytes)), writeNew(name+".sig", []byte(a.Signature)), writeNew(name+".allowed_signers", []byte(signers)))
	if err == nil {
		err = r.approve(a)
	}
	if err != nil {
		return err
	}
	fmt.Printf("%d  %s %s by %s\n    ssh-keygen -Y verify -f %[5]s.allowed_signers -I %[4]s -n %[6]s -s %[5]s.sig < %[5]s.bytes\n",
		index, change.Act, change.ID, a.Officer, name, custody.Namespace)
	return nil
}
