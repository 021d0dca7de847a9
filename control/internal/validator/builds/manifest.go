// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package builds

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"gitlab.com/ampora/ampora/control/internal/validator"
)

// ManifestName is the file in the folder of builds that says what they are.
const ManifestName = "builds.yaml"

// Bounds on a manifest.
const (
	longestManifest = 1 << 20
	mostBuilds      = 200
)

// entry is one build of a manifest.
type entry struct {
	Name     string   `yaml:"name"`
	Versions []string `yaml:"versions"`
	SHA256   string   `yaml:"sha256"`
	Path     string   `yaml:"path"`

	digest [sha256.Size]byte
}

// readManifest reads the manifest in a folder. Its errors are sentences for the administrator.
func readManifest(folder *os.Root) ([]entry, error) {
	file, err := folder.Open(ManifestName)
	if err != nil {
		return nil, fmt.Errorf("the manifest of builds: %w", err)
	}
	defer func() { _ = file.Close() }()
	decoder := yaml.NewDecoder(io.LimitReader(file, longestManifest))
	decoder.KnownFields(true)
	var manifest struct {
		Builds []entry `yaml:"builds"`
	}
	if err := decoder.Decode(&manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestName, err)
	}
	if n := len(manifest.Builds); n == 0 || n > mostBuilds {
		return nil, fmt.Errorf("%s has %d builds, want 1 to %d", ManifestName, n, mostBuilds)
	}
	seen := map[validator.Key]bool{}
	for i := range manifest.Builds {
		if err := manifest.Builds[i].check(seen); err != nil {
			return nil, fmt.Errorf("%s, build %d: %w", ManifestName, i+1, err)
		}
	}
	return manifest.Builds, nil
}

func (e *entry) check(seen map[validator.Key]bool) error {
	digest, err := hex.DecodeString(e.SHA256)
	switch {
	case e.Name == "":
		return errors.New("it has no name; it is the service.name of its agents")
	case len(e.Versions) == 0 || slices.Contains(e.Versions, ""):
		return errors.New("it has no versions; they are the service.version of its agents")
	case err != nil || len(digest) != sha256.Size:
		return errors.New("its sha256 is not 64 hexadecimal digits")
	case !filepath.IsLocal(e.Path):
		return fmt.Errorf("its path %q does not lead to a file in this folder", e.Path)
	}
	e.digest = [sha256.Size]byte(digest)
	for _, v := range e.Versions {
		key := validator.Key{Name: e.Name, Version: strings.TrimPrefix(v, "v")}
		if seen[key] {
			return fmt.Errorf("%s %s is there twice", e.Name, v)
		}
		seen[key] = true
	}
	return nil
}
