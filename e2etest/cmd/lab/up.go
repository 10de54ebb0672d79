// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/e2etest/lab"
)

func upCommand(name *string) *cobra.Command {
	var o lab.Options
	var subnet, subnet6 string
	var lists repeated
	foreground := false
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a lab and install Herald into it",
		Long: `Starts a lab, waits until the cluster and Herald are ready, and returns; the lab keeps running until 'lab down'.
With --foreground it stays, and Ctrl-C ends the lab. If something does not start, the end of its log is shown.

  lab up --nodes 5 --proxy-mode iptables
  lab up --families dual --set speaker.logLevel=debug
  lab up --no-install                                    only a cluster
  lab up --manifests other.yaml --image example/speaker=bin/other-speaker
  lab up --router tor1=bird:tor1.conf --router tor2=frr:tor2.conf

Routers are further hosts on the network, with the addresses .200, .201, ... and a daemon that runs the given file:

  lab exec tor1 birdc -s /run/lab/routers/tor1/bird.ctl show protocols
  lab exec tor2 vtysh -N tor2 -c 'show bgp summary'

Clients and routers can be behind a router instead (--behind client1=tor1), and nodes can have a cable of their own to a router
(--link node1=tor1: interface tor1 on node1, interface node1 on tor1).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Name, o.Progress = *name, cmd.ErrOrStderr()
			if err := parseOptions(&o, subnet, subnet6, lists); err != nil {
				return err
			}
			return up(cmd, o, foreground)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", 3, "number of nodes")
	f.IntVar(&o.Clients, "clients", 1, "number of clients on the network")
	f.BoolVar(&o.ControlPlaneNode, "control-plane-node", false, "give node1 the label and taint of a control-plane node")
	f.StringVar(&o.ProxyMode, "proxy-mode", "nftables", "kube-proxy's mode: nftables or iptables")
	f.StringVar(&o.Families, "families", "ipv4", "address families: ipv4, ipv6 or dual")
	f.StringVar(&subnet, "subnet", "192.168.2.0/24", "IPv4 network of nodes and clients")
	f.StringVar(&subnet6, "subnet6", "fd00:2::/64", "IPv6 network of nodes and clients")
	f.StringArrayVar(&lists.routers, "router", nil, "NAME=bird:FILE or NAME=frr:FILE: a router, and its configuration (repeatable)")
	f.StringArrayVar(&lists.behind, "behind", nil, "HOST=ROUTER: a client or router that is not on the LAN but behind a router (repeatable)")
	f.StringArrayVar(&lists.links, "link", nil, "NODE=ROUTER: a cable of its own between the two, without addresses (repeatable)")
	f.StringVar(&o.MonitorGrace, "node-monitor-grace", "", "how long a silent node counts as ready (default: Kubernetes' own)")
	f.BoolVar(&o.NoInstall, "no-install", false, "install no load balancer")
	f.StringVar(&o.Namespace, "namespace", "metallb-system", "namespace to install into")
	f.StringVar(&o.Chart, "chart", "", "Helm chart to install (default charts/herald)")
	f.StringArrayVar(&o.ChartValues, "set", nil, "chart value, KEY=VALUE, as for helm (repeatable)")
	f.StringArrayVar(&o.ChartFiles, "values", nil, "file of chart values, as for helm (repeatable)")
	f.StringArrayVar(&o.Manifests, "manifests", nil, "apply this file or directory instead of the chart (repeatable)")
	f.StringArrayVar(&lists.images, "image", nil, "NAME=PATH: the program an image name stands for (repeatable)")
	f.BoolVar(&foreground, "foreground", false, "stay, and end the lab with Ctrl-C")
	return cmd
}

// repeated are the flags that may be given several times.
type repeated struct{ images, routers, behind, links []string }

func parseOptions(o *lab.Options, subnet, subnet6 string, lists repeated) error {
	if o.Nodes < 1 { // to Options, none would mean the default
		return fmt.Errorf("--nodes %d: a cluster needs at least one", o.Nodes)
	}
	var err error
	if o.Subnet, err = netip.ParsePrefix(subnet); err != nil || !o.Subnet.Addr().Is4() {
		return fmt.Errorf("--subnet %q: want an IPv4 prefix such as 192.168.2.0/24", subnet)
	}
	if o.Subnet6, err = netip.ParsePrefix(subnet6); err != nil || !o.Subnet6.Addr().Is6() {
		return fmt.Errorf("--subnet6 %q: want an IPv6 prefix such as fd00:2::/64", subnet6)
	}
	for _, arg := range lists.routers {
		r, err := lab.ParseRouter(arg)
		if err != nil {
			return err
		}
		o.Routers = append(o.Routers, r)
	}
	for _, arg := range lists.behind {
		if err := o.ParseBehind(arg); err != nil {
			return err
		}
	}
	for _, arg := range lists.links {
		if err := o.ParseLink(arg); err != nil {
			return err
		}
	}
	o.NoClients = o.Clients == 0
	o.Images = map[string]string{}
	for _, arg := range lists.images {
		name, path, err := lab.ParseImage(arg)
		if err != nil {
			return err
		}
		o.Images[name] = path
	}
	return nil
}

func up(cmd *cobra.Command, o lab.Options, foreground bool) error {
	began := time.Now()
	o.Keep = !foreground
	l, err := lab.Up(cmd.Context(), o)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "lab: ready after %.1f s; logs in %s\n", time.Since(began).Seconds(), l.LogDir())
	if !foreground {
		return nil
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "lab: Ctrl-C ends it")
	waitErr := l.Wait(cmd.Context())
	// The context is over after Ctrl-C, and ending the lab needs one that is not.
	if err := l.Down(context.WithoutCancel(cmd.Context())); err != nil {
		return err
	}
	if errors.Is(waitErr, context.Canceled) {
		return nil
	}
	return waitErr
}
