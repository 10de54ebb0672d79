// SPDX-License-Identifier: Apache-2.0

// Command heraldctl answers questions about Herald in a cluster: who has which
// address, and why a Service has none or gets no traffic. On request it has
// another node answer for an address.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/cmd/internal/program"
)

// version is set at build time.
var version = "dev"

const long = `heraldctl answers questions about Herald, with the rights of your kubeconfig or, inside a Pod, of its
ServiceAccount. It only reads; l2 move and l2 balance are the exceptions.

  heraldctl addresses                     who has which address, since when, and which node answers for it
  heraldctl explain service shop/web      why a Service has that address, or none, and who announces it
  heraldctl l2 owners                     which node answers for what, and which could
  heraldctl l2 move shop/web --to node2   have another node answer, without a gap
  heraldctl bgp sessions                  how the sessions with routers are, and what is wrong
  heraldctl bgp explain shop/web          which router has its routes, from which node, and why others have not
  heraldctl dump cluster.yaml             save what the answers are made from, to ask somebody else
  heraldctl explain service shop/web --from cluster.yaml

The answers come from the planners that the controller and the speakers run, applied to the
objects as they are now.`

func main() { os.Exit(program.Run(context.Background(), command())) }

func command() *cobra.Command {
	s := &source{}
	cmd := &cobra.Command{
		Use:     "heraldctl",
		Short:   "Ask Herald who has which address, and why",
		Long:    long,
		Version: version,
	}
	explain := &cobra.Command{
		Use:   "explain",
		Short: "Tell why something is as it is",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%q cannot be explained: heraldctl explain service NAMESPACE/NAME", args[0])
			}
			return cmd.Help()
		},
	}
	explain.AddCommand(explainServiceCommand(s))
	cmd.AddCommand(addressesCommand(s), explain, l2Command(s), bgpCommand(s), dumpCommand(s), program.Version(version))
	f := cmd.PersistentFlags()
	f.StringVar(&s.kubeconfig, "kubeconfig", "", "file that says how to reach the cluster (default: $KUBECONFIG, else ~/.kube/config, else the Pod's ServiceAccount)")
	f.StringVar(&s.context, "context", "", "context of the kubeconfig (default: its current one)")
	f.StringVarP(&s.namespace, "namespace", "n", "", "namespace of Services")
	f.StringVar(&s.heraldNamespace, "herald-namespace", "", "Herald's own namespace (default: where the IPAddressPools are, else metallb-system)")
	f.StringVar(&s.lbClass, "lb-class", "", "the --lb-class that Herald runs with (default: read from its Pods)")
	f.BoolVar(&s.ignoreExcludeLB, "ignore-exclude-lb", false, "whether Herald runs with --ignore-exclude-lb (default: read from its Pods)")
	return cmd
}
