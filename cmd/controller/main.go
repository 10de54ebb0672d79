// SPDX-License-Identifier: Apache-2.0

// Command controller gives addresses of pools to Services of type
// LoadBalancer. Several replicas may run; one of them leads.
package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/cmd/internal/program"
	"github.com/heraldlb/herald/controller"
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

func main() { os.Exit(program.Run(context.Background(), command())) }

func command() *cobra.Command {
	var o controller.Options
	cmd := program.Daemon(&cobra.Command{
		Use:     "controller",
		Short:   "Give external addresses to Services of type LoadBalancer",
		Long:    long,
		Version: version,
	}, controller.RouteLogs, func(ctx context.Context, cfg *rest.Config, log *slog.Logger) error {
		return controller.Run(ctx, cfg, o, log)
	})
	f := cmd.Flags()
	f.StringVar(&o.Namespace, "namespace", os.Getenv("METALLB_NAMESPACE"), "namespace of Herald and of its configuration objects [METALLB_NAMESPACE]")
	f.StringVar(&o.LBClass, "lb-class", "", "serve only Services with this spec.loadBalancerClass (default: only Services without one)")
	f.StringVar(&o.MLSecretName, "ml-secret-name", os.Getenv("METALLB_ML_SECRET_NAME"), "Secret with the key of gossip, made when it is missing (default: none is made) [METALLB_ML_SECRET_NAME]")
	f.DurationVar(&o.RememberAddresses, "remember-addresses", 10*time.Minute, "how long a deleted Service that is created anew gets the same addresses, unless others need them; 0 turns it off")
	f.IntVar(&o.Port, "port", 9120, "port of /metrics and /debug/plan; 0 turns it off")
	f.IntVar(&o.HealthProbePort, "health-probe-port", 17472, "port of /healthz and /readyz; 0 turns it off")
	f.StringVar(&o.PprofBindAddress, "pprof-bind-address", "", "address of net/http/pprof, for example 127.0.0.1:6060 (default: off)")
	return cmd
}
