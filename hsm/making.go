package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// making is one key object of the token in the making, by one job on the anchor.
type making struct {
	op     string
	spec   KeySpec
	backup Backup
	input  secret.Bytes // what steps is given in locked memory; wiped with the job
	steps  func(*session) error

	token      *Token
	generation *generation
	key        backupKey // that the copy is wrapped under; without a backup, one of the session
	entry      *entry    // the key as a generation knows it: of a master alone
	wrapped    Wrapped
	begun      bool // what has the label is this making's
}

func (m *making) check() error {
	err := m.spec.validate()
	if err == nil {
		err = m.backup.validate()
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", m.op, m.spec.Label, err)
	}
	return nil
}

// makeMaster makes a master and configures it.
func (t *Token) makeMaster(ctx context.Context, m *making) error {
	if err := m.check(); err != nil {
		m.input.Wipe()
		return err
	}
	if err := t.mayConfigure(m.spec); err != nil {
		m.input.Wipe()
		return fmt.Errorf("%s: %w", m.op, err)
	}
	leave, err := t.enterOffice(ctx)
	if err != nil {
		m.input.Wipe()
		return err
	}
	defer leave()
	if err := t.make(ctx, m); err != nil {
		return err
	}
	return t.settled(t.adopt(ctx, m.generation, m.entry))
}

// settled takes it for no error of a making that the token went away after the key was whole: it is configured, and the next generation
// finds it.
func (t *Token) settled(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return nil
	}
	return err
}

// make runs a making, in the office.
func (t *Token) make(ctx context.Context, m *making) (err error) {
	if m.generation, err = t.generation(); err != nil {
		m.input.Wipe()
		return err
	}
	m.token = t
	j := newJob(func(s *session) (result, fault error) {
		if fault = m.run(s); fault != nil {
			return publicError(fmt.Sprintf("%s %q", m.op, m.spec.Label), fault), fault
		}
		return nil, nil
	})
	j.discard = func() { t.discardMaking(m) }
	j.released = func() { m.input.Wipe() }
	j.lost = func(err error) { // the library cannot be reloaded under the call, and what could leave the token is still in it
		t.exit(fmt.Errorf("%s %q hangs: %w", m.op, m.spec.Label, err))
	}
	return m.generation.do(ctx, m.generation.admin, j)
}

// run makes the object, finds it again as every generation will, and destroys it when it is not right. A fault of the token ends the
// generation by a reload of the library: that frees temporary objects whose handle, or whose end, was never told.
func (m *making) run(s *session) error {
	err := m.begin(s)
	if err != nil {
		return m.escalated(err)
	}
	err = m.steps(s)
	if err == nil && m.spec.Kind.Valid() {
		m.entry, err = m.generation.resolve(s, m.spec)
		if err == nil {
			err = m.entry.failure()
		}
	}
	if err == nil {
		m.token.finish(m.spec.Label)
		return nil
	}
	if classOf(err) <= classRequest {
		if left := m.token.settle(s, m.spec.Label); left != nil {
			err = fmt.Errorf("%w: %w (after: %v)", errLeft, left, err)
		}
	}
	return m.escalated(err)
}

// begin makes sure that nothing has the label, and finds what the steps need. From its good end on, what has the label is this making's.
func (m *making) begin(s *session) error {
	if err := m.token.settle(s, m.spec.Label); err != nil {
		return err
	}
	found, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_LABEL, m.spec.Label))
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return ErrExists
	}
	if m.spec.Kind.Valid() { // a master
		m.entry = &entry{spec: m.spec}
		if err := m.generation.prepare(s, m.entry); err != nil {
			return err
		}
		if !m.backup.none {
			if m.key, err = m.generation.findBackup(s, m.backup); err != nil {
				return err
			}
		}
	}
	m.token.unfinish(m.spec.name())
	m.begun = true
	return nil
}

// escalated makes a fault of the token one of the device.
func (m *making) escalated(err error) error {
	if c := classOf(err); c == classSession || c == classStale {
		return fmt.Errorf("%w: %w", errLeft, err)
	}
	return err
}

// discardMaking is for a making whose caller left: nobody learns of the key.
func (t *Token) discardMaking(m *making) {
	if !m.begun {
		return
	}
	t.unfinish(m.spec.name())
	j := newJob(simple(func(s *session) error { return t.settle(s, m.spec.Label) }))
	_ = m.generation.post(m.generation.admin, j) // where it is refused, the next generation does it
}

// unfinish notes that whatever has the name is half made; finish that it is whole, or gone.
func (t *Token) unfinish(n name) {
	t.mu.Lock()
	t.unfinished[n.label] = n.id
	t.mu.Unlock()
}

func (t *Token) finish(label string) {
	t.mu.Lock()
	delete(t.unfinished, label)
	t.mu.Unlock()
}

// settle destroys what an unfinished making left under a label. While a call hangs that was written off, which may still make
// the object, the making stays unfinished: the next look at the label destroys it.
func (t *Token) settle(s *session, label string) error {
	t.mu.Lock()
	id, unfinished := t.unfinished[label]
	t.mu.Unlock()
	if !unfinished {
		return nil
	}
	if err := s.destroyNamed(name{label, id}); err != nil {
		return err
	}
	if t.hung.Load() == 0 {
		t.finish(label)
	}
	return nil
}

// settleAll is settle for every label, before a generation takes traffic.
func (t *Token) settleAll(s *session) error {
	t.mu.Lock()
	var labels []string
	for label := range t.unfinished {
		labels = append(labels, label)
	}
	t.mu.Unlock()
	for _, label := range labels {
		if err := t.settle(s, label); err != nil {
			return fmt.Errorf("destroy what was left of %q: %w", label, err)
		}
	}
	return nil
}

// destroyNamed destroys the objects with the name, and looks again: an object that another process made under the label, with another id,
// stays.
func (s *session) destroyNamed(n name) error {
	for pass := range 2 {
		found, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_LABEL, n.label))
		if err != nil {
			return err
		}
		var ours []pkcs11.ObjectHandle
		for _, object := range found {
			named, err := s.isNamed(object, n)
			if err != nil {
				return err
			}
			if named {
				ours = append(ours, object)
			}
		}
		if pass == 1 && len(ours) > 0 {
			return fmt.Errorf("%q: %w", n.label, errStillThere)
		}
		for _, object := range ours {
			if err := s.destroy(object); err != nil {
				return err
			}
		}
	}
	return nil
}

// enterOffice waits until no other officer's operation runs: one changes what another looks at.
func (t *Token) enterOffice(ctx context.Context) (leave func(), err error) {
	select {
	case t.office <- struct{}{}:
		return func() { <-t.office }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// onAdmin runs f on the anchor.
func (t *Token) onAdmin(ctx context.Context, op string, f func(*generation, *session) error) error {
	g, err := t.generation()
	if err != nil {
		return err
	}
	return t.onAdminOf(ctx, g, op, func(s *session) error { return f(g, s) })
}

func (*Token) onAdminOf(ctx context.Context, g *generation, op string, f func(*session) error) error {
	return g.do(ctx, g.admin, newJob(func(s *session) (result, fault error) {
		if fault = f(s); fault != nil {
			return publicError(op, fault), fault
		}
		return nil, nil
	}))
}
