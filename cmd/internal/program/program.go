// SPDX-License-Identifier: Apache-2.0

// Package program is what Herald's programs have in common.
package program

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/heraldlb/herald/internal/telemetry"
)

// Run runs a command until it ends, or is told to by SIGTERM or Ctrl-C, and returns the exit code of the process.
func Run(ctx context.Context, cmd *cobra.Command) (code int) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.Name(), err)
		return 1
	}
	return 0
}

// Daemon makes cmd, of which Use, Short, Long and Version are set, a program that runs in a cluster: with a log, and a way to the
// API server. Its other flags are added by the caller. routeLogs is told where Kubernetes' libraries shall log.
func Daemon(cmd *cobra.Command, routeLogs func(*slog.Logger), run func(context.Context, *rest.Config, *slog.Logger) error) *cobra.Command {
	var logLevel, kubeconfig string
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		level, err := telemetry.ParseLevel(logLevel)
		if err != nil {
			return fmt.Errorf("--log-level: %w", err)
		}
		log := telemetry.NewLogger(os.Stdout, level)
		routeLogs(log)
		cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return fmt.Errorf("find the API server: %w (outside a Pod give --kubeconfig)", err)
		}
		log.Info("starting", telemetry.KeyVersion, cmd.Version)
		return run(cmd.Context(), cfg, log)
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.AddCommand(Version(cmd.Version))
	f := cmd.Flags()
	f.StringVar(&logLevel, "log-level", "info", "all, debug, info, warn, error or none")
	f.StringVar(&kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "how to reach the API server; only outside a Pod [KUBECONFIG]")
	return cmd
}

// Version is the subcommand that prints the version.
func Version(version string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version)
			return err
		},
	}
}
