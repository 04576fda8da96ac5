package ceremony

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pursekeeper/pursekeeper/internal/secret"
)

// script is a screen that answers from a list, and keeps all that was on it. Its tests' keys are published ones.
type script struct {
	answers []string
	shown   strings.Builder // what Show and prompts wrote, with [clear] for Clear
	now     strings.Builder // what is on the screen now
	secrets []string        // what was revealed
	asked   int             // Secret calls
	broken  error           // what every Clear fails with
}

var errClosed = errors.New("the terminal is closed")

func (s *script) Show(text string) error {
	s.shown.WriteString(text)
	s.now.WriteString(text)
	return nil
}

func (s *script) next(prompt string) (string, error) {
	_ = s.Show(prompt)
	if len(s.answers) == 0 {
		return "", errClosed
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return answer, nil
}

func (s *script) Line(_ context.Context, prompt string) (string, error) { return s.next(prompt) }

func (s *script) Secret(_ context.Context, prompt string) (secret.Bytes, error) {
	s.asked++
	answer, err := s.next(prompt)
	return secret.Copy([]byte(answer)), err
}

func (s *script) Reveal(text secret.Bytes) error {
	s.secrets = append(s.secrets, string(text.Reveal("test")))
	s.now.Write(text.Reveal("test"))
	return nil
}

func (s *script) Clear() error {
	s.shown.WriteString("[clear]")
	s.now.Reset()
	return s.broken
}

// showsNoDigitsOf fails when four digits in a row of a component were shown.
func (s *script) showsNoDigitsOf(t *testing.T, components ...string) {
	t.Helper()
	shown := strings.ToUpper(strings.ReplaceAll(s.shown.String(), " ", ""))
	for _, component := range components {
		digits := strings.ToUpper(strings.ReplaceAll(component, " ", ""))
		for at := 0; at+6 <= len(digits); at++ {
			assert.NotContains(t, shown, digits[at:at+6])
		}
	}
}
