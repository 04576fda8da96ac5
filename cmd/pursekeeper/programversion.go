package main

import (
	"runtime"
	"runtime/debug"

	"github.com/pursekeeper/pursekeeper/testvectors/conformance"
)

// builtProgram is what ran: the module's version and the commit that it was built of, as the Go tool wrote them down.
func builtProgram() conformance.Program {
	p := conformance.Program{Version: "(unknown)", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return p
	}
	p.Version = info.Main.Version
	changes := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			p.Revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changes = "+changes"
		}
	}
	if p.Revision != "" {
		p.Revision += changes
	}
	return p
}

// programVersion is the same as one line, for records.
func programVersion() string {
	p := builtProgram()
	version := "pursekeeper " + p.Version + ", " + p.Go
	if p.Revision != "" {
		version += ", commit " + p.Revision
	}
	return version
}
