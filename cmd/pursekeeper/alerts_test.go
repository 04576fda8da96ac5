package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/peers"
)

// alertFile is a rule file of Prometheus, as far as it is looked at here.
type alertFile struct {
	Groups []struct {
		Name  string
		Rules []alert
	}
}

type alert struct {
	Alert, Expr, For string
	Labels           struct{ Severity string }
	Annotations      struct{ Summary, Description, Runbook string }
}

const alertsFolder = "../../docs/alerts"

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(alertsFolder, "pursekeeper.rules.yaml"))
	require.NoError(t, err)
	var file alertFile
	require.NoError(t, yaml.UnmarshalWithOptions(text, &file, yaml.Strict()))
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	require.NotEmpty(t, all)
	return all
}

// promtool is Prometheus's own: on the PATH, or where .ci/setup put it.
func promtool(t *testing.T, arguments ...string) string {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		cache, err := os.UserCacheDir()
		require.NoError(t, err)
		tool = filepath.Join(cache, "pursekeeper", "promtool")
	}
	c := exec.Command(tool, arguments...)
	c.Dir = alertsFolder
	out, err := c.CombinedOutput()
	require.NoError(t, err, "run .ci/setup if promtool is not there: %s", out)
	return string(out)
}

// The rule file is one to Prometheus, each alert fires when it should, and none while all is well.
func TestAlertsFire(t *testing.T) {
	assert.Contains(t, promtool(t, "check", "rules", "pursekeeper.rules.yaml"), "SUCCESS")
	assert.Contains(t, promtool(t, "test", "rules", "pursekeeper.rules.test.yaml"), "SUCCESS")
	var tests struct{ Tests []struct{ Name string } }
	text, err := os.ReadFile(filepath.Join(alertsFolder, "pursekeeper.rules.test.yaml"))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &tests))
	names := []string{"all is well"}
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
	}
	var tested []string
	for _, test := range tests.Tests {
		tested = append(tested, test.Name)
	}
	assert.ElementsMatch(t, names, tested, "each alert is tested")
}

// Each alert says what it is, how urgent, and what to do.
func TestAlertsSayWhatToDo(t *testing.T) {
	page, err := os.ReadFile("../../docs/alarms.md")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, a := range alerts(t) {
		assert.False(t, seen[a.Alert], "%s is there twice", a.Alert)
		seen[a.Alert] = true
		assert.Contains(t, []string{"critical", "warning", "info"}, a.Labels.Severity, a.Alert)
		assert.NotEmpty(t, a.Annotations.Summary, a.Alert)
		assert.NotEmpty(t, a.Annotations.Description, a.Alert)
		assert.Equal(t, "docs/alarms.md#"+strings.ToLower(a.Alert), a.Annotations.Runbook)
		_, section, found := strings.Cut(string(page), "\n### "+a.Alert+"\n")
		require.True(t, found, "docs/alarms.md has no section %s", a.Alert)
		section, _, _ = strings.Cut(section, "\n#")
		assert.Contains(t, section, "**Do:** ", a.Alert)
		assert.Contains(t, section, "*"+a.Labels.Severity+".*", a.Alert)
	}
	for _, section := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllStringSubmatch(string(page), -1) {
		assert.True(t, seen[section[1]], "docs/alarms.md has the section %s of no alert", section[1])
	}
}

// Each alarm of the record has its alert, by its event.
func TestEveryAlarmHasAnAlert(t *testing.T) {
	watched := map[string]bool{}
	for _, a := range alerts(t) {
		for _, m := range matchers(a.Expr, "event") {
			watched[m] = true
		}
	}
	for _, event := range audit.Alarms() {
		assert.True(t, watched[string(event)], "the alarm %s has no alert", event)
		delete(watched, string(event))
	}
	assert.Empty(t, watched, "alerts of events that are no alarms")
}

// matchers are the values that an expression asks a label to have.
func matchers(expr, label string) (values []string) {
	for _, m := range regexp.MustCompile(`\b`+label+`[=!]~?"([^"]*)"`).FindAllStringSubmatch(expr, -1) {
		values = append(values, strings.Split(m[1], "|")...)
	}
	return values
}

// What the alerts look at is what a signer shows: a real one, with a witness, authorities that revoke, and a request behind it.
func TestAlertsLookAtMetricsThatAreThere(t *testing.T) {
	h, _, config := authorityHome(t)
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	const witness = `audit: {directory: audit, witnesses: [{name: near, url: "http://127.0.0.1:1/", key: "witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"}]}`
	with := regexp.MustCompile(`(?m)^audit: .*$`).ReplaceAllString(string(text), witness)
	require.Contains(t, with, "near")
	h.write("alerts.yaml", with)
	s := serveChild(h, h.path("alerts.yaml"))
	on := &platform{}
	on.use(s)
	require.NoError(t, newWallet(t, on, "demo", 1).load(t.Context()))
	_, page := s.ask("/metrics")
	there := map[string]bool{"up": true} // Prometheus's own
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(page, -1) {
		there[m[1]] = true
		if m[2] == "histogram" {
			there[m[1]+"_bucket"] = true
		}
	}
	methods := methodsOf(v1.File_pursekeeper_v1_signer_proto, v1.File_pursekeeper_v1_reader_proto, v1.File_pursekeeper_v1_key_proto, v1.File_pursekeeper_v1_audit_proto)
	for _, a := range alerts(t) {
		for _, name := range regexp.MustCompile(`\b(pursekeeper_\w+|up)\b`).FindAllString(strings.ReplaceAll(a.Expr, `"pursekeeper"`, ""), -1) {
			assert.True(t, there[name], "%s: no signer shows %s", a.Alert, name)
		}
		for label, known := range map[string][]string{
			"code": codes(), "outcome": outcomes(), "reason": reasons(), "kind": {"server", "client-ca", "crl"}, "method": methods,
			"state": states(), "job": {"pursekeeper"},
		} {
			for _, value := range matchers(a.Expr, label) {
				assert.Contains(t, known, value, "%s: %s", a.Alert, label)
			}
		}
	}
	for _, event := range audit.Alarms() {
		assert.Contains(t, page, `pursekeeper_alarms_total{event="`+string(event)+`"} `, "counted from 0 on")
	}
	assert.Zero(t, s.terminate())
}

func methodsOf(files ...protoreflect.FileDescriptor) (all []string) {
	for _, file := range files {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				all = append(all, string(service.Methods().Get(j).Name()))
			}
		}
	}
	return all
}

func codes() (all []string) {
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		all = append(all, code.String())
	}
	return append(all, "ok", "malformed")
}

func outcomes() (all []string) {
	for _, name := range v1.Outcome_name {
		all = append(all, name)
	}
	return all
}

func reasons() (all []string) {
	for _, reason := range peers.Reasons() {
		all = append(all, string(reason))
	}
	return all
}

func states() (all []string) {
	for state := custody.PreActive; state <= custody.Destroyed; state++ {
		all = append(all, state.String())
	}
	return all
}
