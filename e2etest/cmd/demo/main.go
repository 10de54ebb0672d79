// SPDX-License-Identifier: Apache-2.0

// Command demo shows Herald at work: a cluster in network namespaces, a Service, a client, and a cable that is cut.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/heraldlb/herald/e2etest/demo"
)

func main() {
	keep := flag.Bool("keep", false, "leave the lab running at the end")
	root := flag.String("root", "", "top of the source tree; default: found from the working directory")
	flag.Parse()
	os.Exit(run(*root, *keep))
}

func run(root string, keep bool) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "demo: it makes network namespaces, and needs root for that: run it with sudo")
		return 1
	}
	root, err := findRoot(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	switch err := demo.Run(ctx, demo.Options{Out: os.Stdout, Root: root, Keep: keep}); {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "\ndemo: interrupted; the lab is gone")
		return 130
	case err != nil:
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n\nWhat to do: `make deps build lab-programs` builds and installs what it needs. To look around in the same lab,\n"+
			"run `bin/lab up`, `bin/lab shell` and `bin/lab logs`, or `bin/demo -keep`, which leaves its lab running.\n", err)
		return 1
	}
	return 0
}

// findRoot looks upwards for the directory that holds the chart.
func findRoot(root string) (string, error) {
	if root != "" {
		return filepath.Abs(root)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "charts", "herald", "Chart.yaml")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it inside the source tree, or say where that is with -root")
		}
		dir = filepath.Dir(dir)
	}
}
