// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/ctl"
)

const dumpLong = `Saves what the planners read into one file: pools, advertisements, peers, Services of type LoadBalancer
and their endpoints, nodes, namespaces, and what speakers report. "heraldctl addresses" and "heraldctl
explain" read it with --from, so that somebody without access to the cluster can answer.

The file has names, labels and addresses. It has no Secret, no password, and no annotation but
MetalLB's and Herald's. Read it before you send it away.

Without FILE the dump goes to standard output. The file must not exist yet.`

const dumpExample = `  heraldctl dump cluster.yaml
  heraldctl dump -o json | jq '.services | length'
  heraldctl dump | heraldctl explain service shop/web --from -`

func dumpCommand(s *source) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use:     "dump [FILE]",
		Short:   "Save what the answers are made from",
		Long:    dumpLong,
		Example: dumpExample,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := ""
			if len(args) == 1 {
				file = args[0]
			}
			c, err := s.cluster(cmd, lb.ServiceKey{})
			if err != nil {
				return err
			}
			tell(cmd.ErrOrStderr(), c)
			var b bytes.Buffer
			if err := ctl.Write(&b, c, cmp.Or(format, formatOf(file))); err != nil {
				return err
			}
			if file == "" {
				_, err := b.WriteTo(cmd.OutOrStdout())
				return err
			}
			return create(file, b.Bytes())
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "", "yaml or json (default: json for a FILE named .json, else yaml)")
	return cmd
}

func formatOf(file string) string {
	if filepath.Ext(file) == ".json" {
		return "json"
	}
	return "yaml"
}

func create(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the dump: %w", err)
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return fmt.Errorf("write the dump: %w", err)
	}
	return f.Close()
}
