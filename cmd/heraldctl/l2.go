// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/ctl"
)

const l2Long = `Addresses that are announced by ARP and NDP have one owner: the node that answers for them. These
commands show the owners and change them on purpose. The new owner answers before the old one stops, so
that no new connection fails; established ones of externalTrafficPolicy Cluster are in the old owner's
connection table, and most are lost (docs/l2.md says which).`

func l2Command(s *source) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "l2",
		Short: "Show and change which node answers for an address",
		Long:  l2Long,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(ownersCommand(s), moveCommand(s), balanceCommand(s))
	return cmd
}

const ownersLong = `Lists which node answers for which addresses, which nodes could take over as far as the API server knows
(which interfaces they have only they know), and how many addresses each node answers for. Addresses that
share a Service have one owner and one line. Where nobody answers, heraldctl explain service says why.`

func ownersCommand(s *source) *cobra.Command {
	var f ctl.OwnersFilter
	output := ""
	cmd := &cobra.Command{
		Use:   "owners",
		Short: "List which node answers for which addresses",
		Long:  ownersLong,
		Example: `  heraldctl l2 owners                  all of them
  heraldctl l2 owners --node node1     what node1 answers for
  heraldctl l2 owners -n shop -o json`,
		Args: cobra.NoArgs,
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
			v := ctl.Look(c)
			list, err := v.Owners(f)
			if err != nil {
				return err
			}
			return ctl.PrintOwners(cmd.OutOrStdout(), list, v.Shares(), output)
		},
	}
	s.addFrom(cmd)
	cmd.Flags().StringVar(&f.Node, "node", "", "only what this node answers for")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, wide, json or yaml")
	return cmd
}

const moveLong = `Has another node answer for the addresses of a Service, and waits until it does. It writes the annotation
heraldlb.io/l2-move-to on the Service (this needs the right to patch it), which the present owner acts on,
and removes it again.

It is a wish, granted once: if the node fails later, another one takes over, and the addresses do not come
back by themselves. To prefer nodes for good, use preferredNodeSelectors of the L2Advertisement.`

func moveCommand(s *source) *cobra.Command {
	to := ""
	cmd := &cobra.Command{
		Use:     "move NAMESPACE/NAME --to NODE",
		Short:   "Have another node answer for a Service's addresses",
		Long:    moveLong,
		Example: "  heraldctl l2 move shop/web --to node2",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("name one Service: heraldctl l2 move NAMESPACE/NAME --to NODE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return fmt.Errorf("say which node: heraldctl l2 move %s --to NODE", args[0])
			}
			key, err := s.serviceKey(args[0])
			if err != nil {
				return err
			}
			api, err := s.connect()
			if err != nil {
				return err
			}
			c, err := s.read(cmd, api, key)
			if err != nil {
				return err
			}
			tell(cmd.ErrOrStderr(), c)
			m, done, err := ctl.Look(c).Move(key, to)
			if err != nil {
				return err
			}
			if done {
				fmt.Fprintf(cmd.OutOrStdout(), "Node %s answers for Service %s already.\n", to, key)
				return nil
			}
			return carry(cmd, api, c.Namespace, m)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the node that should answer")
	return cmd
}

// carry carries out a move and says so.
func carry(cmd *cobra.Command, api ctl.Patcher, namespace string, m ctl.Move) error {
	if err := ctl.Carry(cmd.Context(), api, namespace, m, time.Now()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "Service %s moved from node %s to node %s.\n", m.Service, m.From, m.To)
	return err
}

const balanceLong = `Evens out how many addresses the nodes answer for: moves them one by one, from the node with most to one
with fewest that may have them, until no move makes it more even. Joins and restarts of nodes never move
addresses, so that a node that was away has few until somebody runs this.

A move that is not carried out (the node may lack an interface, which only the node itself knows) is left
out, and those after it are tried. --dry-run shows the moves only.`

func balanceCommand(s *source) *cobra.Command {
	dry := false
	cmd := &cobra.Command{
		Use:   "balance",
		Short: "Even out how many addresses the nodes answer for",
		Long:  balanceLong,
		Example: `  heraldctl l2 balance --dry-run
  heraldctl l2 balance`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := s.connect()
			if err != nil {
				return err
			}
			c, err := s.read(cmd, api, lb.ServiceKey{})
			if err != nil {
				return err
			}
			tell(cmd.ErrOrStderr(), c)
			moves := ctl.Look(c).Balance()
			if len(moves) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "Nothing to move: no hand-over makes it more even.")
			}
			var failed []error
			for _, m := range moves {
				if dry {
					fmt.Fprintf(cmd.OutOrStdout(), "Service %s would move from node %s to node %s.\n", m.Service, m.From, m.To)
					continue
				}
				if err := carry(cmd, api, c.Namespace, m); err != nil {
					failed = append(failed, err)
					if cmd.Context().Err() != nil {
						break
					}
				}
			}
			return errors.Join(failed...)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show the moves, make none")
	return cmd
}
