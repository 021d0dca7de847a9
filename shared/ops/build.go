// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"runtime"
	"runtime/debug"
)

// version is set by the release build:
//
//	-ldflags "-X gitlab.com/ampora/ampora/shared/ops.version=v1.2.3"
var version = "dev"

// Build says what is running.
type Build struct {
	Version  string `json:"version"`  // of the release, or "dev"
	Revision string `json:"revision"` // of the source, or "unknown"; "+dirty" after it for changed files
	Go       string `json:"go"`       // of the toolchain
}

// Version returns the build of this program, from what the linker left in it.
func Version() Build {
	build := Build{Version: version, Revision: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build
	}
	dirty := ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			build.Revision = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "+dirty"
		}
	}
	build.Revision += dirty
	return build
}

// String is the build on one line, as for --version.
func (b Build) String() string {
	return b.Version + " (revision " + b.Revision + ", " + b.Go + ")"
}
