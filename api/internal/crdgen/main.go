// SPDX-License-Identifier: Apache-2.0

// Command crdgen finishes the CustomResourceDefinitions that controller-gen
// wrote: it replaces the names of long CEL rules ('@name' in a marker) by the
// rules, says that no webhook converts, writes the kustomization, and copies
// everything into the chart.
//
// usage: crdgen CRD-DIR CHART-DIR
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: crdgen CRD-DIR CHART-DIR")
		os.Exit(2) //nolint:forbidigo // main ends the program
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "crdgen:", err)
		os.Exit(1) //nolint:forbidigo // main ends the program
	}
}

func run(dir, chart string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*_*.yaml"))
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("no CustomResourceDefinition in %s", dir)
	}
	if err := os.RemoveAll(chart); err != nil {
		return err
	}
	if err := os.MkdirAll(chart, 0o755); err != nil {
		return err
	}
	var kustomization strings.Builder
	kustomization.WriteString("# Written by go generate ./api/...\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n")
	for _, path := range paths { // Glob sorts
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text, err := expand(string(b))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		name := filepath.Base(path)
		for _, to := range []string{path, filepath.Join(chart, name)} {
			if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
				return err
			}
		}
		fmt.Fprintf(&kustomization, "  - %s\n", name)
	}
	return os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(kustomization.String()), 0o644)
}

// expand replaces every '@name' by the rule of that name, as a YAML scalar.
func expand(text string) (string, error) {
	rules := addressRules()
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		head, name, found := strings.Cut(line, "'@")
		if !found {
			continue
		}
		name = strings.TrimSuffix(name, "'")
		rule, ok := rules[name]
		if !ok {
			return "", fmt.Errorf("line %d: no rule named %q", i+1, name)
		}
		if strings.Contains(rule, "{{") {
			return "", fmt.Errorf("rule %q has {{, which the chart would take for a template", name)
		}
		lines[i] = head + "'" + strings.ReplaceAll(rule, "'", "''") + "'"
	}
	// Said although it is the default: a definition that another implementation
	// has left may name a webhook. That would stay when an update does not
	// mention it, and then no object could be read any more. Now the API server
	// refuses the update until somebody removes the webhook.
	const spec = "\nspec:\n"
	text = strings.Join(lines, "\n")
	if strings.Count(text, spec) != 1 {
		return "", fmt.Errorf("want one line %q", spec)
	}
	return strings.Replace(text, spec, spec+"  conversion:\n    strategy: None\n", 1), nil
}
