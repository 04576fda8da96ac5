package main

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/hsm"
)

// The token and the group commit, as Prometheus asks for them.
var (
	metricReady      = describe("token_ready", "1 when the token takes work.")
	metricLatched    = describe("token_pin_latched", "1 when a refused PIN waits for an operator.")
	metricGeneration = describe("token_generation", "Logins of this process, counted from 1.")
	metricKeysFailed = describe("token_keys_failed", "Keys that fail closed.")
	metricDiffers    = describe("key_differences", "Differences between the catalogue and the token at the last comparison.")
	metricRevision   = describe("catalogue_revision", "Revision of the catalogue in use; 0 without one.")
	metricInFlight   = describe("token_calls_in_flight", "Jobs on the token's sessions.")
	metricWaiting    = describe("token_calls_waiting", "Jobs that wait for a session.")
	metricHanging    = describe("token_calls_hanging", "Calls written off that are still inside the library.")
	metricWrittenOff = describe("token_calls_written_off_total", "Calls written off.")
	metricDiscarded  = describe("token_sessions_discarded_total", "Sessions given up after an error.")
	metricRecoveries = describe("token_recoveries_total", "Recoveries begun.")
	metricGroups     = describe("store_commits_total", "Group commits.")
	metricChanges    = describe("store_changes_total", "Changes in group commits.")
	metricCommitting = describe("store_commit_seconds_total", "Time in group commits.")
	metricLogFailing = describe("store_log_failing", "1 when the last try to move SQLite's log into the database failed.")
	metricSealer     = describe("audit_sealer", "1 when this node seals the record.")
	metricFailing    = describe("audit_sealing_failed", "1 when the last try to seal failed.")
	metricSealed     = describe("audit_sealed_entries", "Entries under the newest checkpoint.")
	metricUnsealed   = describe("audit_unsealed_entries", "Entries that wait to be sealed.")
	metricWaits      = describe("audit_unsealed_seconds", "Age of the oldest entry that waits to be sealed.")
	metricKeyState   = prometheus.NewDesc("pursekeeper_key_state", "1 for the state that each key is in on this node.",
		[]string{"key", "state"}, nil)
	metricExposed = prometheus.NewDesc("pursekeeper_key_exposed",
		"1 when the holder of the PIN can take card keys of a TOKEN master out of the token, 0 when it refused; none when it was not tried.",
		[]string{"key"}, nil)
)

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("pursekeeper_"+name, help, nil, nil)
}

// Describe says that the metrics are those of Collect.
func (n *node) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(n, ch) }

// Collect reads the token's and the store's counters; it makes no call of either.
func (n *node) Collect(ch chan<- prometheus.Metric) {
	token, commits := n.token.Stats(), n.store.Stats()
	gauge := func(d *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	total := func(d *prometheus.Desc, value uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
	}
	gauge(metricReady, truth(token.State == hsm.StateReady))
	gauge(metricLatched, truth(token.PINLatched))
	gauge(metricGeneration, float64(token.Generation))
	gauge(metricKeysFailed, float64(token.KeysFailed))
	gauge(metricDiffers, float64(n.keys.differing()))
	gauge(metricRevision, float64(n.signer.Revision()))
	n.signer.EachKey(func(key audit.Key, state custody.KeyState) {
		name := fmt.Sprintf("%s/%s/%d", key.Set, key.Kind, key.Version)
		ch <- prometheus.MustNewConstMetric(metricKeyState, prometheus.GaugeValue, 1, name, state.String())
	})
	gauge(metricInFlight, float64(token.InFlight))
	gauge(metricWaiting, float64(token.Waiting))
	gauge(metricHanging, float64(token.Hanging))
	for _, found := range n.token.Findings() {
		ch <- prometheus.MustNewConstMetric(metricExposed, prometheus.GaugeValue, truth(found.Extractable), found.Label)
	}
	total(metricWrittenOff, token.WrittenOff)
	total(metricDiscarded, token.Discarded)
	total(metricRecoveries, token.Recoveries)
	total(metricGroups, commits.Groups.Load())
	total(metricChanges, commits.Changes.Load())
	gauge(metricLogFailing, truth(n.store.LogFailure() != nil))
	sealed := n.sealingStatus()
	gauge(metricSealer, truth(sealed.Holder))
	gauge(metricFailing, truth(sealed.Err != nil))
	gauge(metricSealed, float64(sealed.Sealed))
	gauge(metricUnsealed, float64(sealed.Unsealed()))
	gauge(metricWaits, age(sealed.Oldest))
	n.collectWitnesses(ch)
	n.collectCertificates(ch)
	ch <- prometheus.MustNewConstMetric(metricCommitting, prometheus.CounterValue, float64(commits.Nanoseconds.Load())/1e9)
}

// age is how long ago a time is; of no time, and of one to come, 0.
func age(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(0, time.Since(at).Seconds())
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
