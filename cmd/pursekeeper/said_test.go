package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pursekeeper/pursekeeper/internal/config"
)

// What a signer that is not the right one says in an error moves no cursor and changes no line.
func TestErrorsForATerminal(t *testing.T) {
	err := errors.Join(errors.New("one"), fmt.Errorf("two: %w", errors.New("\x1b[2Jgone\r\x9b\x07")))
	text := said(err)
	assert.Contains(t, text, "one\ntwo: ")
	for _, r := range text {
		assert.True(t, r == '\n' || r >= ' ' && (r < 0x7f || r >= 0xa0), "%U", r)
	}
}

// Two nodes of one host over one store do not take each other's claims for their own; one that starts again does.
func TestNamesOfNodes(t *testing.T) {
	one := &config.Config{SQLite: "/var/lib/state.db", Listen: "0.0.0.0:8443"}
	other := &config.Config{SQLite: one.SQLite, Listen: "0.0.0.0:8444"}
	assert.NotEqual(t, nodeName("host", one), nodeName("host", other))
	assert.NotEqual(t, nodeName("host", one), nodeName("other", one))
	again := *one
	assert.Equal(t, nodeName("host", one), nodeName("host", &again))
}
