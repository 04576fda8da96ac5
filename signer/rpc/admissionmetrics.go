package rpc

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pursekeeper/pursekeeper/signer/admission"
)

// The admission of requests, as Prometheus asks for it. client is a client's name; line is requests, batches, streams or exports.
var (
	metricAdmitted = describeAdmission("admitted_total", "Requests that got a slot.")
	metricRefused  = describeAdmission("refused_total", "Requests refused beyond a bound of their client.", "bound")
	metricLeft     = describeAdmission("left_total", "Requests whose caller left, or whose time ended, while they waited for a slot.")
	metricWaiting  = describeAdmission("waiting", "Requests that wait for a slot.")
	metricHeld     = describeAdmission("working", "Requests that hold a slot.")
	metricWaited   = describeAdmission("waited_seconds_total", "Time that requests waited for a slot.")
)

func describeAdmission(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("pursekeeper_admission_"+name, help, append([]string{"line", "client"}, more...), nil)
}

// Describe says that the metrics are those of Collect.
func (a *Admission) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(a, ch) }

// Collect reads the queues' counts.
func (a *Admission) Collect(ch chan<- prometheus.Metric) {
	for line, queue := range map[string]*admission.Queue{
		lineRequests: a.requests, lineBatches: a.batches, lineStreams: a.streams, lineExports: a.exports,
	} {
		for _, s := range queue.Stats() {
			send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, more ...string) {
				ch <- prometheus.MustNewConstMetric(d, kind, value, append([]string{line, s.Client}, more...)...)
			}
			for _, bound := range admission.Bounds() {
				send(metricRefused, prometheus.CounterValue, float64(s.Refused[bound]), bound.String())
			}
			if line == lineStreams {
				continue // whose requests are among the requests
			}
			send(metricAdmitted, prometheus.CounterValue, float64(s.Admitted))
			send(metricLeft, prometheus.CounterValue, float64(s.Left))
			send(metricWaiting, prometheus.GaugeValue, float64(s.Waiting))
			send(metricHeld, prometheus.GaugeValue, float64(s.Held))
			send(metricWaited, prometheus.CounterValue, s.Waited.Seconds())
		}
	}
}
