// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/ctl"
)

func bgpCommand(s *source) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bgp",
		Short: "Show BGP sessions and what routers are told",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(sessionsCommand(s), routesCommand(s), explainBGPCommand(s))
	return cmd
}

// bgpFlags are the flags that all of them have.
func bgpFlags(s *source, cmd *cobra.Command, f *ctl.BGPFilter, output *string) *cobra.Command {
	s.addFrom(cmd)
	cmd.Flags().StringVar(&f.Node, "node", "", "only of this node")
	cmd.Flags().StringVar(&f.Peer, "peer", "", "only with the router of this BGPPeer")
	cmd.Flags().StringVarP(output, "output", "o", "table", "table, wide, json or yaml")
	return cmd
}

const sessionsLong = `Lists the BGP sessions that nodes hold with routers, or should hold: their state and since when, how many
prefixes the router has been sent of those that it is to have, the state of BFD, and what is wrong in words.
Of a session that is up, -o wide shows also why it was last down.`

func sessionsCommand(s *source) *cobra.Command {
	var f ctl.BGPFilter
	output := ""
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List the sessions with routers",
		Long:  sessionsLong,
		Example: `  heraldctl bgp sessions
  heraldctl bgp sessions --peer tor1 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := s.look(cmd, output, lb.ServiceKey{})
			if err != nil {
				return err
			}
			list, err := v.Sessions(f)
			if err != nil {
				return err
			}
			switch {
			case len(list) > 0:
			case f.Node != "" || f.Peer != "":
				fmt.Fprintln(cmd.ErrOrStderr(), "There is no such BGP session: no valid BGPPeer asks for it.")
			default:
				fmt.Fprintln(cmd.ErrOrStderr(), "No node has a BGP session: there is no valid BGPPeer that selects one.")
			}
			return ctl.PrintSessions(cmd.OutOrStdout(), list, output)
		},
	}
	return bgpFlags(s, cmd, &f, &output)
}

const routesLong = `Lists the routes that nodes announce to routers, with what is said about them and the Services that they
are for, or those of one Service. It is what the planners make of the objects; "SESSION down" means that the
router cannot have it.`

func routesCommand(s *source) *cobra.Command {
	var f ctl.BGPFilter
	output := ""
	cmd := &cobra.Command{
		Use:   "routes [NAMESPACE/NAME]",
		Short: "List the routes that routers are told",
		Long:  routesLong,
		Example: `  heraldctl bgp routes
  heraldctl bgp routes shop/web --node node1
  heraldctl bgp routes --peer tor1 -o yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if len(args) > 0 {
				if f.Service, err = s.serviceKey(args[0]); err != nil {
					return err
				}
			}
			v, err := s.look(cmd, output, f.Service)
			if err != nil {
				return err
			}
			list, err := v.Routes(f)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "There is no such route: heraldctl bgp explain NAMESPACE/NAME says why.")
			}
			return ctl.PrintRoutes(cmd.OutOrStdout(), list, output)
		},
	}
	return bgpFlags(s, cmd, &f, &output)
}

const explainBGPLong = `Says for each node and router whether the router has the routes of a Service, or the one reason why not, and
what to do about it.`

func explainBGPCommand(s *source) *cobra.Command {
	var f ctl.BGPFilter
	output := ""
	cmd := &cobra.Command{
		Use:   "explain NAMESPACE/NAME",
		Short: "Say why a router has the routes of a Service, or not",
		Long:  explainBGPLong,
		Example: `  heraldctl bgp explain shop/web
  heraldctl bgp explain shop/web --peer tor1 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if f.Service, err = s.serviceKey(args[0]); err != nil {
				return err
			}
			v, err := s.look(cmd, output, f.Service)
			if err != nil {
				return err
			}
			list, err := v.ExplainBGP(f)
			if err != nil {
				return err
			}
			return ctl.PrintPaths(cmd.OutOrStdout(), list, output)
		},
	}
	return bgpFlags(s, cmd, &f, &output)
}

// look reads the cluster and runs the planners.
func (s *source) look(cmd *cobra.Command, output string, also lb.ServiceKey) (*ctl.View, error) {
	if err := ctl.CheckOutput(output); err != nil {
		return nil, err
	}
	c, err := s.cluster(cmd, also)
	if err != nil {
		return nil, err
	}
	tell(cmd.ErrOrStderr(), c)
	return ctl.Look(c), nil
}
