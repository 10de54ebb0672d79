// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/ctl"
)

const addressesLong = `Lists the addresses that Services have: whose they are, the pool they are from, since when the Service has
them, and the node that answers for them (its ServiceL2Status), or the nodes from which routers have them
(ServiceBGPStatus, and BGPSession that is up). SINCE is when the controller gave the
address (annotation heraldlb.io/assigned-at); "<TIME" is for addresses given before Herald wrote that down:
at that time the Service had it already.

Addresses that an IPReservation holds are listed, too, with "-" for the Service while nobody uses them.
-o wide says how much of its quota the namespace has used (spec.quotas of the pool).

A shared address is listed once for each of its Services. "-" is: none, or not known. All namespaces are
listed unless -n names one.`

const addressesExample = `  heraldctl addresses                        all of them
  heraldctl addresses -n shop --pool web     those of pool web in namespace shop
  heraldctl addresses -o wide                with interfaces, sharing keys and the state of announcing
  heraldctl addresses -o json | jq -r '.addresses[] | select(.nodes == null).address'
  heraldctl addresses --from cluster.yaml    out of a dump`

func addressesCommand(s *source) *cobra.Command {
	var f ctl.Filter
	output := ""
	cmd := &cobra.Command{
		Use:     "addresses",
		Aliases: []string{"address", "addr"},
		Short:   "List who has which address",
		Long:    addressesLong,
		Example: addressesExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := ctl.CheckOutput(output); err != nil {
				return err
			}
			c, err := s.cluster(cmd, lb.ServiceKey{})
			if err != nil {
				return err
			}
			tell(cmd.ErrOrStderr(), c)
			f.Namespace = s.namespace
			list, err := ctl.Look(c).Addresses(f)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "No Service has an address"+which(f)+".")
			}
			return ctl.PrintAddresses(cmd.OutOrStdout(), list, output)
		},
	}
	s.addFrom(cmd)
	cmd.Flags().StringVar(&f.Pool, "pool", "", "only addresses from this IPAddressPool")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, wide, json or yaml")
	return cmd
}

// which ends the sentence that there is none.
func which(f ctl.Filter) string {
	text := ""
	if f.Pool != "" {
		text += " from pool " + f.Pool
	}
	if f.Namespace != "" {
		text += " in namespace " + f.Namespace
	}
	return text
}
