// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/lab"
)

const longHelp = `A lab is a real Kubernetes cluster on this machine, without containers: real etcd, API server, controller manager,
scheduler and kube-proxy, with nodes, clients and routers as network namespaces on a bridge. Herald is installed in it
from its own Helm chart. It needs root, changes nothing outside, and leaves nothing behind.

  lab up                              start one, three nodes and a client, and keep it running
  lab kubectl get nodes               ask it
  lab exec client1 curl 192.168.2.128 be a client on the network
  lab node cut node1                  break something
  lab down                            end it

Places for exec and shell: cp (the control plane), node1, node2, ..., client1, ..., lan (the bridge), and routers by name.`

// newCommand builds the command tree. Flags are variables of this call, not of the package.
func newCommand() *cobra.Command {
	name := ""
	root := &cobra.Command{
		Use:           "lab",
		Short:         "A Kubernetes cluster in network namespaces, with Herald in it",
		Long:          longHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVarP(&name, "name", "n", "", "name of the lab (default \"lab\")")
	attach := func(ctx context.Context) (*lab.Lab, error) { return lab.Attach(ctx, "", name) }
	root.AddCommand(upCommand(&name), downCommand(&name), statusCommand(attach), kubectlCommand(&name), shellCommand(attach),
		execCommand(attach), logsCommand(attach), nodeCommand(attach))
	return root
}

type attachFunc func(context.Context) (*lab.Lab, error)

func downCommand(name *string) *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End a lab and everything in it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []string{*name}
			if all {
				var err error
				if names, err = lab.List(""); err != nil {
					return err
				}
				if len(names) == 0 {
					fmt.Fprintln(cmd.ErrOrStderr(), "lab: none is running")
				}
			}
			for _, n := range names {
				l, err := lab.Attach(cmd.Context(), "", n)
				if errors.Is(err, lab.ErrNotRunning) { // which is what was wanted
					fmt.Fprintf(cmd.ErrOrStderr(), "lab: %v\n", err)
					continue
				}
				if err != nil {
					return err
				}
				if err := l.Down(cmd.Context()); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "lab: %s has ended\n", l.Name())
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "end every lab of this machine")
	return cmd
}

func statusCommand(attach attachFunc) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show a lab's machines, addresses and what is broken",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := attach(cmd.Context())
			if err != nil {
				return err
			}
			st, err := l.Status(cmd.Context())
			if err != nil {
				return err
			}
			printStatus(cmd, l, st)
			return nil
		},
	}
}

func printStatus(cmd *cobra.Command, l *lab.Lab, st lab.Status) {
	out := cmd.OutOrStdout()
	state := "starting"
	if st.Ready {
		state = "ready"
	}
	fmt.Fprintf(out, "lab %s: %s, Kubernetes %s, kube-proxy %s, %s\n", st.Name, state, st.Kubernetes, st.ProxyMode, st.APIServer)
	fmt.Fprintf(out, "logs: %s\n\n", l.LogDir())
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tADDRESS\tMAC\tPOWER\tCABLE\tPODS")
	for _, n := range st.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, list(n.IPs), n.MAC, n.Power, n.Cable, list(n.Pods))
	}
	for _, h := range append(st.Clients, st.Routers...) {
		fmt.Fprintf(w, "%s\t%s\t%s\t\t\t\n", h.Name, list(h.IPs), h.MAC)
	}
	_ = w.Flush()
}

func list[T fmt.Stringer](items []T) string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = item.String()
	}
	return strings.Join(out, ", ")
}

func kubectlCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl ARGS...",
		Short:              "Run kubectl as the cluster's administrator",
		Long:               "Runs kubectl as the cluster's administrator. For a lab with a name of its own: lab --name NAME kubectl ...",
		DisableFlagParsing: true, // all flags are kubectl's
		RunE: func(cmd *cobra.Command, args []string) error {
			// With flag parsing off, --name in front of "kubectl" arrives here.
			for len(args) > 1 && (args[0] == "--name" || args[0] == "-n") && *name == "" && beforeKubectl(args[0]) {
				*name, args = args[1], args[2:]
			}
			l, err := lab.Attach(cmd.Context(), "", *name)
			if err != nil {
				return err
			}
			return become(cmd.Context(), l, "cp", append([]string{"kubectl"}, args...))
		},
	}
}

// beforeKubectl says whether the flag stood before the word kubectl on our command line.
func beforeKubectl(flag string) bool {
	for _, arg := range os.Args[1:] {
		if arg == "kubectl" {
			return false
		}
		if arg == flag {
			return true
		}
	}
	return false
}

func shellCommand(attach attachFunc) *cobra.Command {
	return &cobra.Command{
		Use:   "shell [PLACE]",
		Short: "Open a shell in the lab, with kubectl, helm and heraldctl ready (default place: cp)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := attach(cmd.Context())
			if err != nil {
				return err
			}
			where := "cp"
			if len(args) == 1 {
				where = args[0]
			}
			if err := os.Setenv("PS1", fmt.Sprintf("[%s %s] \\w# ", l.Name(), where)); err != nil {
				return err
			}
			return become(cmd.Context(), l, where, []string{"bash", "--norc"})
		},
	}
}

func execCommand(attach attachFunc) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec PLACE COMMAND [ARGS...]",
		Short: "Run a command in a place of the lab",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := attach(cmd.Context())
			if err != nil {
				return err
			}
			return become(cmd.Context(), l, args[0], args[1:])
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows PLACE is the command's
	return cmd
}

// become replaces this process by the command, so that terminal, signals and exit code are the command's own.
func become(ctx context.Context, l *lab.Lab, where string, argv []string) error {
	cmd, err := l.Command(ctx, where, argv...)
	if err != nil {
		return err
	}
	if err := syscall.Exec(cmd.Path, cmd.Args, cmd.Env); err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	return nil
}

func logsCommand(attach attachFunc) *cobra.Command {
	container := ""
	cmd := &cobra.Command{
		Use:   "logs NAMESPACE/POD | COMPONENT",
		Short: "Show the log of a container, or of a component (kube-apiserver, etcd, node1, ...)",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := attach(cmd.Context())
			if err != nil {
				return err
			}
			var data []byte
			if ns, pod, ok := strings.Cut(args[0], "/"); ok {
				data, err = l.Logs(ns, pod, container)
			} else {
				data, err = l.ComponentLog(args[0])
			}
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(data)
			if errors.Is(err, unix.EPIPE) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&container, "container", "c", "", "container of the Pod")
	return cmd
}

func nodeCommand(attach attachFunc) *cobra.Command {
	var names []string
	cmd := &cobra.Command{
		Use: "node", Short: "Break and repair nodes",
		// Without this, cobra would print the help and call that a success.
		RunE: func(_ *cobra.Command, args []string) error {
			got := "nothing"
			if len(args) > 0 {
				got = strconv.Quote(args[0])
			}
			return fmt.Errorf("what to do with the node: want one of %s and the node's name, got %s", strings.Join(names, ", "), got)
		},
	}
	actions := []struct {
		name, short string
		do          func(*lab.Lab, context.Context, string) error
	}{
		{"cut", "Pull the cable: the node sees its link go down", (*lab.Lab).Cut},
		{"plug", "Undo cut and blackhole", (*lab.Lab).Plug},
		{"blackhole", "Lose every frame while the link stays up", (*lab.Lab).Blackhole},
		{"unblackhole", "Undo blackhole", (*lab.Lab).Unblackhole},
		{"freeze", "Stop every process of the node; its kernel still answers", (*lab.Lab).Freeze},
		{"thaw", "Undo freeze", (*lab.Lab).Thaw},
		{"kill", "Cut the power: all of the node is gone at once", (*lab.Lab).Kill},
		{"reboot", "Cut the power, if it is on, and start the node again", (*lab.Lab).Reboot},
	}
	for _, a := range actions {
		names = append(names, a.name)
		cmd.AddCommand(&cobra.Command{
			Use: a.name + " NODE", Short: a.short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				l, err := attach(cmd.Context())
				if err != nil {
					return err
				}
				return a.do(l, cmd.Context(), args[0])
			},
		})
	}
	return cmd
}
