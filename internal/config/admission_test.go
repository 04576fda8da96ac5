package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/signer/admission"
)

func readAdmission(t *testing.T, token, text string) (Admission, error) {
	t.Helper()
	c, err := readText(t, folder(t), strings.Replace(good, "  hang: 7s\n", "  hang: 7s\n"+token, 1)+text)
	if err != nil {
		return Admission{}, err
	}
	return c.Admission, nil
}

// What is left out is derived of the token's: more sessions have more work in flight, and the token's queue holds all of it.
func TestAdmissionOfTheToken(t *testing.T) {
	for token, slots := range map[string]int{
		"":                                64,
		"  inFlight: 8\n":                 128,
		"  inFlight: 64\n":                192, // three quarters of the queue
		"  inFlight: 64\n  queue: 2000\n": 1024,
		"  queue: 10\n":                   8,
		"  queue: 1\n":                    1,
	} {
		a, err := readAdmission(t, token, "")
		require.NoError(t, err, token)
		assert.Equal(t, Admission{Slots: slots, Default: admission.Limits{Queue: slots}}, a, token)
	}
}

func TestAdmissionAsWritten(t *testing.T) {
	a, err := readAdmission(t, "", `
admission:
  slots: 40
  queue: 100
  concurrency: 30
  rate: 500
  burst: 800
  clients:
    - {name: platform, rate: 50, queue: 10}
`)
	require.NoError(t, err)
	assert.Equal(t, Admission{
		Slots: 40, Default: admission.Limits{Queue: 100, Concurrency: 30, Rate: 500, Burst: 800},
		Clients: map[string]admission.Limits{"platform": {Queue: 10, Concurrency: 30, Rate: 50, Burst: 50}},
	}, a)
}

func TestAdmissionRefused(t *testing.T) {
	for want, text := range map[string]string{
		"admission.slots: 0: expected 1 to 65536":                  "slots: 0",
		"admission.slots: 257: expected at most token.queue, 256":  "slots: 257",
		"admission.queue: 0: expected 1 to 65536":                  "queue: 0",
		"admission.concurrency: -1: expected 1 to 65536":           "concurrency: -1",
		"admission.rate: 1000001: expected 1 to 1000000":           "rate: 1000001",
		"admission.burst: has no use without a rate":               "burst: 3",
		`admission.clients[0].name: there is no client "platfrom"`: "clients: [{name: platfrom, rate: 3}]",
		"admission.clients[0].name: missing":                       "clients: [{rate: 3}]",
		`admission.clients[1].name: "platform" is there twice`:     "clients: [{name: platform, rate: 3}, {name: platform, rate: 3}]",
		"admission.clients[0].queue: 0: expected 1 to 65536":       "clients: [{name: platform, queue: 0}]",
		"admission.shots":            "shots: 3",
		"admission.clients[0].slots": "clients: [{name: platform, slots: 0}]",
	} {
		_, err := readAdmission(t, "", "\nadmission:\n  "+text+"\n")
		require.ErrorContains(t, err, want, text)
	}
}
