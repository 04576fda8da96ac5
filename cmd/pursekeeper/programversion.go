package main

import "runtime/debug"

// programVersion is what ran, for records: the module's version and the commit that it was built of, as the Go tool wrote them down.
func programVersion() string {
	info, known := debug.ReadBuildInfo()
	if !known {
		return "pursekeeper, of an unknown build"
	}
	version := "pursekeeper " + info.Main.Version + ", " + info.GoVersion
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			version += ", commit " + s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			version += ", modified"
		}
	}
	return version
}
