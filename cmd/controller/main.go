// SPDX-License-Identifier: Apache-2.0

// Command controller gives addresses of pools to Services of type
// LoadBalancer. Several replicas may run; one of them leads.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/heraldlb/herald/controller"
	"github.com/heraldlb/herald/internal/telemetry"
)

// version is set at build time.
var version = "dev"

const long = `The controller gives addresses of IPAddressPool objects to Services of type LoadBalancer,
and writes into the status of every configuration object whether it is used, and if
not, why. It announces nothing: that is the speaker's part.

Run two or more replicas: one leads (a Lease in Herald's namespace), the others take
over when it stops. What it decided is in the Service condition heraldlb.io/Allocated:

  kubectl get service NAME -o jsonpath='{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}'

/metrics and /debug/plan (the last snapshot and plan as JSON, without secrets) are on
--port, /healthz and /readyz on --health-probe-port.

Every flag that names an environment variable takes its default from there; the
chart sets them from the Pod (downward API).`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		stop()
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o controller.Options
	var logLevel, kubeconfig string
	cmd := &cobra.Command{
		Use:           "controller",
		Short:         "Give external addresses to Services of type LoadBalancer",
		Long:          long,
		Args:          cobra.NoArgs,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level, err := telemetry.ParseLevel(logLevel)
			if err != nil {
				return fmt.Errorf("--log-level: %w", err)
			}
			log := telemetry.NewLogger(os.Stdout, level)
			controller.RouteLogs(log)
			cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return fmt.Errorf("find the API server: %w (outside a Pod give --kubeconfig)", err)
			}
			log.Info("starting", telemetry.KeyVersion, version)
			return controller.Run(cmd.Context(), cfg, o, log)
		},
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.AddCommand(&cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version)
			return err
		},
	})
	f := cmd.Flags()
	f.StringVar(&o.Namespace, "namespace", os.Getenv("METALLB_NAMESPACE"), "namespace of Herald and of its configuration objects [METALLB_NAMESPACE]")
	f.StringVar(&o.LBClass, "lb-class", "", "serve only Services with this spec.loadBalancerClass (default: only Services without one)")
	f.StringVar(&o.MLSecretName, "ml-secret-name", os.Getenv("METALLB_ML_SECRET_NAME"), "Secret with the key of gossip, made when it is missing (default: none is made) [METALLB_ML_SECRET_NAME]")
	f.DurationVar(&o.RememberAddresses, "remember-addresses", 10*time.Minute, "how long a deleted Service that is created anew gets the same addresses, unless others need them; 0 turns it off")
	f.StringVar(&logLevel, "log-level", "info", "all, debug, info, warn, error or none")
	f.IntVar(&o.Port, "port", 9120, "port of /metrics and /debug/plan; 0 turns it off")
	f.IntVar(&o.HealthProbePort, "health-probe-port", 17472, "port of /healthz and /readyz; 0 turns it off")
	f.StringVar(&o.PprofBindAddress, "pprof-bind-address", "", "address of net/http/pprof, for example 127.0.0.1:6060 (default: off)")
	f.StringVar(&kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "how to reach the API server; only outside a Pod [KUBECONFIG]")
	return cmd
}
