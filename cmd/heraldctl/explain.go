// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/ctl"
)

const explainServiceLong = `Tells the story of one Service: what it asks for, what address it has and why, which pools were
considered and why each serves it or not, who answers for the address, why each other node does not, and
what to do if something is wrong.

What the plan says and what the cluster shows are compared: if the controller or a speaker has not
done yet what it should, the story says so. Every reason it may name is explained in docs/reasons.md.`

const explainServiceExample = `  heraldctl explain service shop/web
  heraldctl explain service -n shop web
  heraldctl explain service shop/web --from cluster.yaml    out of a dump`

func explainServiceCommand(s *source) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "service NAMESPACE/NAME",
		Aliases: []string{"services", "svc"},
		Short:   "Tell why a Service has its address, or none, and who announces it",
		Long:    explainServiceLong,
		Example: explainServiceExample,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one Service: heraldctl explain service NAMESPACE/NAME")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := s.serviceKey(args[0])
			if err != nil {
				return err
			}
			c, err := s.cluster(cmd, key)
			if err != nil {
				return err
			}
			return ctl.Look(c).Explain(cmd.OutOrStdout(), key)
		},
	}
	s.addFrom(cmd)
	return cmd
}

// serviceKey reads NAMESPACE/NAME, or NAME with -n.
func (s *source) serviceKey(arg string) (lb.ServiceKey, error) {
	ns, name, ok := strings.Cut(arg, "/")
	switch {
	case !ok:
		ns, name = s.serviceNamespace(), arg
	case s.namespace != "" && s.namespace != ns:
		return lb.ServiceKey{}, fmt.Errorf("the Service %s is not in the namespace of -n %s: leave out one of the two", arg, s.namespace)
	}
	if ns == "" || name == "" || strings.Contains(name, "/") {
		return lb.ServiceKey{}, fmt.Errorf("%q names no Service: write NAMESPACE/NAME", arg)
	}
	return lb.ServiceKey{Namespace: ns, Name: name}, nil
}
