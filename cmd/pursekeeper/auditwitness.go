package main

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/witness"
)

// witnessTime bounds one request to a witness.
const witnessTime = 20 * time.Second

// offerer offers the node's checkpoints to the witnesses of its configuration.
func (n *node) offerer() *witness.Offerer {
	c := witness.Config{
		Folder: tiles.Folder(n.config.Audit.Directory), Log: n.log, Alarm: n.alarm,
		Key: func(ctx context.Context) (note.Verifier, error) { return n.checkpointKey(ctx) },
		Cosigned: func(c tiles.Checkpoint, w *tiles.Witness, lines string) error {
			return n.sealing.sealer.Cosigned(c, w, lines)
		},
	}
	for _, w := range n.config.Audit.Witnesses {
		c.Witnesses = append(c.Witnesses, witness.Witness{Name: w.Name, URL: w.URL, Key: w.Key, HTTP: &http.Client{
			Timeout: witnessTime, CheckRedirect: witness.NoRedirect,
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.CAs}, ForceAttemptHTTP2: true,
			},
		}})
	}
	return witness.New(c)
}

// How it stands with each witness, as Prometheus asks for it.
var (
	metricWitnessed     = describeWitness("entries", "Entries under the newest checkpoint that the witness signed.")
	metricWitnessFailed = describeWitness("failed", "1 when the last offer to the witness failed.")
	metricWitnessWaits  = describeWitness("waiting_seconds", "How long a checkpoint has waited for the witness.")
)

func describeWitness(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("pursekeeper_audit_witness_"+name, help, []string{"witness"}, nil)
}

func (n *node) collectWitnesses(ch chan<- prometheus.Metric) {
	if n.sealing.offers == nil {
		return
	}
	for _, w := range n.sealing.offers.Statuses() {
		ch <- prometheus.MustNewConstMetric(metricWitnessed, prometheus.GaugeValue, float64(w.Size), w.Name)
		ch <- prometheus.MustNewConstMetric(metricWitnessFailed, prometheus.GaugeValue, truth(w.Err != nil), w.Name)
		ch <- prometheus.MustNewConstMetric(metricWitnessWaits, prometheus.GaugeValue, age(w.Waiting), w.Name)
	}
}
