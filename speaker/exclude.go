// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"errors"
	"fmt"
	"os"
	"regexp"

	"sigs.k8s.io/yaml"
)

// exclusions are the patterns of interfaces that never answer, whatever an
// advertisement says: those of container runtimes and overlays.
type exclusions []*regexp.Regexp

// defaultExclusions apply when no file is given or it does not exist.
func defaultExclusions() []string {
	return []string{
		"^docker.*", "^cbr.*", "^dummy.*", "^virbr.*", "^lxcbr.*", "^veth.*", "^lo$", "^cali.*",
		"^tunl.*", "^flannel.*", "^kube-ipvs.*", "^cni.*", "^nodelocaldns.*", "^lxc.*",
	}
}

// loadExclusions reads the file of --excludel2-config, whose only key is
// announcedInterfacesToExclude: a list of regular expressions. A file that is
// absent means the defaults; one that cannot be understood is an error, since
// silently answering on the wrong interface would be worse.
func loadExclusions(path string) (exclusions, error) {
	if path == "" {
		return compileExclusions(defaultExclusions())
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return compileExclusions(defaultExclusions())
	}
	if err != nil {
		return nil, fmt.Errorf("read interface exclusions: %w", err)
	}
	var file struct {
		Patterns []string `json:"announcedInterfacesToExclude"`
	}
	if err := yaml.UnmarshalStrict(b, &file); err != nil {
		return nil, fmt.Errorf("interface exclusions in %s: %w (want announcedInterfacesToExclude: [\"^docker.*\", ...])", path, err)
	}
	ex, err := compileExclusions(file.Patterns)
	if err != nil {
		return nil, fmt.Errorf("interface exclusions in %s: %w", path, err)
	}
	return ex, nil
}

func compileExclusions(patterns []string) (exclusions, error) {
	ex := make(exclusions, 0, len(patterns))
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
		ex = append(ex, re)
	}
	return ex, nil
}

// match reports whether the interface is excluded.
func (ex exclusions) match(name string) bool {
	for _, re := range ex {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}
