// SPDX-License-Identifier: Apache-2.0

// Command bench measures Herald, or another implementation of the same API, in a lab: a table for people, and
// JSON lines for programs in the file named by BENCH_OUT.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/e2etest/bench"
	"github.com/heraldlb/herald/e2etest/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	o := bench.Options{Progress: os.Stderr}
	var run, out string
	var images []string
	var check bool
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure Herald, or another implementation of the same API, in a lab",
		Example: `  bench --run 'arp|rss'
  bench --manifests metallb-native.yaml --image metallb/controller=bin/mc --image metallb/speaker=bin/ms`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if os.Geteuid() != 0 {
				return errors.New("it makes network namespaces, and needs root for that")
			}
			if o.Run, err = regexp.Compile(run); err != nil {
				return fmt.Errorf("--run: %w", err)
			}
			if err := o.Validate(); err != nil { // before the file of results is written
				return fmt.Errorf("--run: %w", err)
			}
			o.Images = map[string]string{}
			for _, arg := range images {
				name, path, err := lab.ParseImage(arg)
				if err != nil {
					return err
				}
				o.Images[name] = path
			}
			if o.Root, err = filepath.Abs(o.Root); err != nil {
				return err
			}
			return measure(cmd.Context(), o, out, check)
		},
	}
	f := cmd.Flags()
	f.StringVar(&run, "run", ".", "measure only what matches this regular expression")
	f.IntVar(&o.Nodes, "nodes", 3, "nodes of the labs")
	f.IntVar(&o.Services, "services", 1000, "Services of the burst; the names of the values go on saying 1000")
	f.IntVar(&o.Many, "many", 10_000, "Services to measure the scale with; the names of the values go on saying 10k")
	f.IntVar(&o.Cuts, "cuts", 20, "how often the cable is cut; speakers are frozen and killed half as often")
	f.DurationVar(&o.Load, "load", 10*time.Minute, "how long all cores are kept busy to see whether an address moves")
	f.StringArrayVar(&o.Manifests, "manifests", nil, "install this file or directory instead of Herald's chart; may be repeated")
	f.StringArrayVar(&images, "image", nil, "NAME=PATH: the program that an image name stands for; may be repeated")
	f.StringVar(&o.Namespace, "namespace", "metallb-system", "where the pools and the load balancer live")
	f.StringVar(&o.Root, "root", ".", "top of the source tree")
	f.StringVar(&out, "out", os.Getenv("BENCH_OUT"), "file for the JSON lines (environment BENCH_OUT)")
	f.BoolVar(&check, "check", false, "fail when a value misses its target")
	return cmd
}

func measure(ctx context.Context, o bench.Options, out string, check bool) error {
	results, runErr := bench.Run(ctx, o)
	missed, err := bench.Table(os.Stdout, results, bench.Targets())
	if err = errors.Join(runErr, err); err == nil && check && missed > 0 {
		err = fmt.Errorf("%d values miss their target", missed)
	}
	if out == "" {
		return err
	}
	file, createErr := os.Create(out)
	if createErr != nil {
		return errors.Join(err, createErr)
	}
	return errors.Join(err, bench.WriteJSON(file, results), file.Close())
}
