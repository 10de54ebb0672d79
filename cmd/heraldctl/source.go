// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc" // kubeconfigs may ask for it
	"k8s.io/client-go/tools/clientcmd"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/ctl"
)

// source is where the objects come from, as the flags say.
type source struct {
	kubeconfig      string
	context         string
	namespace       string
	heraldNamespace string
	lbClass         string
	ignoreExcludeLB bool
	from            string // a dump
}

// addFrom lets a command read a dump.
func (s *source) addFrom(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.from, "from", "", "read this dump (see heraldctl dump) instead of a cluster; - is standard input")
}

// cluster reads the dump or the cluster; from that, a Service of any type too,
// if one is named.
func (s *source) cluster(cmd *cobra.Command, also lb.ServiceKey) (*ctl.Cluster, error) {
	if s.from != "" {
		return s.dump(cmd)
	}
	api, err := s.connect()
	if err != nil {
		return nil, err
	}
	return s.read(cmd, api, also)
}

// connect finds the cluster.
func (s *source) connect() (ctl.Patcher, error) {
	cfg, err := s.config().ClientConfig()
	if err != nil {
		return nil, s.noConfig(err)
	}
	return ctl.Connect(cfg)
}

// read reads the cluster as the flags say.
func (s *source) read(cmd *cobra.Command, get ctl.Getter, also lb.ServiceKey) (*ctl.Cluster, error) {
	opt := ctl.ReadOptions{Namespace: s.heraldNamespace, Also: also, Now: time.Now()}
	if cmd.Flags().Changed("lb-class") {
		opt.LBClass = &s.lbClass
	}
	if cmd.Flags().Changed("ignore-exclude-lb") {
		opt.IgnoreExcludeLB = &s.ignoreExcludeLB
	}
	return ctl.Read(cmd.Context(), get, opt)
}

func (s *source) dump(cmd *cobra.Command) (*ctl.Cluster, error) {
	for _, name := range []string{"kubeconfig", "context", "herald-namespace", "lb-class", "ignore-exclude-lb"} {
		if cmd.Flags().Changed(name) {
			return nil, fmt.Errorf("--%s does not go with --from: the dump says it", name)
		}
	}
	in := cmd.InOrStdin()
	if s.from != "-" {
		f, err := os.Open(s.from)
		if err != nil {
			return nil, fmt.Errorf("--from: %w", err)
		}
		defer f.Close()
		in = f
	}
	c, err := ctl.Load(in)
	if err != nil {
		return nil, fmt.Errorf("--from %s: %w", s.from, err)
	}
	return c, nil
}

// config follows the rules of kubectl.
func (s *source) config() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = s.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: s.context})
}

func (s *source) noConfig(err error) error {
	if clientcmd.IsEmptyConfig(err) {
		return errors.New("no cluster is known: give --kubeconfig, set KUBECONFIG, or read a dump with --from")
	}
	return fmt.Errorf("find the cluster: %w", err)
}

// serviceNamespace is where a Service is looked for that is named without.
func (s *source) serviceNamespace() string {
	if s.namespace != "" || s.from != "" {
		return cmp.Or(s.namespace, "default")
	}
	ns, _, err := s.config().Namespace()
	if err != nil {
		return "default" // whatever is wrong is told when the cluster is read
	}
	return ns
}

// tell prints what could not be read; the answer is on standard output.
func tell(w io.Writer, c *ctl.Cluster) {
	for _, n := range c.Notes {
		fmt.Fprintln(w, "heraldctl: note:", n)
	}
}
