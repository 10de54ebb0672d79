// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"
)

// Write writes a dump in the given format, json or yaml.
func Write(w io.Writer, c *Cluster, format string) error {
	var data []byte
	var err error
	switch format {
	case "json":
		data, err = json.MarshalIndent(c, "", "  ")
		data = append(data, '\n')
	case "yaml":
		data, err = yaml.Marshal(c)
	default:
		return fmt.Errorf("a dump is written as yaml or json, not %q", format)
	}
	if err != nil {
		return fmt.Errorf("encode the dump: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write the dump: %w", err)
	}
	return nil
}

// Load reads a dump, JSON or YAML.
func Load(r io.Reader) (*Cluster, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read the dump: %w", err)
	}
	c := &Cluster{}
	if err := yaml.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("this is no dump (make one with heraldctl dump): %w", err)
	}
	if c.Format != Format {
		return nil, fmt.Errorf("the dump has format %q, and this heraldctl reads %q: make it with heraldctl dump of the same version", c.Format, Format)
	}
	return c, nil
}
