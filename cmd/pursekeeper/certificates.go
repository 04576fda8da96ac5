package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The certificates of the API's TLS, as Prometheus asks for them.
var (
	metricTrust         = describe("certificates_generation", "States of the certificates that were in use, counted from 1.")
	metricTrustOutdated = prometheus.NewDesc("pursekeeper_certificates_outdated",
		"1 when the newest files of this half cannot be used, and those from before are.", []string{"half"}, nil)
	metricExpires = prometheus.NewDesc("pursekeeper_certificate_expires_seconds",
		"Seconds until a certificate ends, or until a list of revoked ones is due for its next update; below 0 when it is past.",
		[]string{"kind", "name"}, nil)
)

func (n *node) collectCertificates(ch chan<- prometheus.Metric) {
	if n.peers == nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(metricTrust, prometheus.GaugeValue, float64(n.peers.Generation()))
	server, clients := n.peers.Outdated()
	ch <- prometheus.MustNewConstMetric(metricTrustOutdated, prometheus.GaugeValue, truth(server), "server")
	ch <- prometheus.MustNewConstMetric(metricTrustOutdated, prometheus.GaugeValue, truth(clients), "clients")
	for _, e := range n.peers.Expiries() {
		ch <- prometheus.MustNewConstMetric(metricExpires, prometheus.GaugeValue, time.Until(e.At).Seconds(), e.Kind, e.Name)
	}
}
