// SPDX-License-Identifier: Apache-2.0

// Command lab runs a real Kubernetes cluster without containers, in network namespaces of this machine, with Herald
// installed in it. See 'lab help'.
//
// The same program is also everything inside a lab: its first argument then names the role.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/internal/agent"
	"github.com/heraldlb/herald/e2etest/internal/boot"
	"github.com/heraldlb/herald/e2etest/internal/container"
	"github.com/heraldlb/herald/e2etest/internal/echo"
	"github.com/heraldlb/herald/e2etest/internal/supervisor"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if len(args) > 0 {
		switch args[0] {
		case boot.Role:
			return boot.Main(args[1:])
		case supervisor.Role:
			return supervisor.Main(ctx, args[1:])
		case agent.Role:
			return agent.Main(ctx, args[1:])
		case container.Role:
			return container.Main()
		case echo.Role:
			return echo.Main(ctx, args[1:])
		}
	}
	cmd := newCommand()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode() // the program's own message has been seen
	}
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "lab: interrupted")
		return 130
	}
	fmt.Fprintf(os.Stderr, "lab: %v\n", err)
	return 1
}
