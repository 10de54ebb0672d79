// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkCables finds what Behind and Links say wrongly.
func (o Options) checkCables() []error {
	var errs []error
	clients, nodes, routers := numbered("client", o.Clients), numbered("node", o.Nodes), map[string]bool{}
	for _, r := range o.Routers {
		routers[r.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(o.Behind)) {
		switch {
		case !clients[name] && !routers[name]:
			errs = append(errs, fmt.Errorf("behind %s=%s: %[1]s is neither a client nor a router", name, o.Behind[name]))
		case !routers[o.Behind[name]]:
			errs = append(errs, fmt.Errorf("behind %s=%s: %[2]s is no router", name, o.Behind[name]))
		case o.entrance(name) == "":
			errs = append(errs, fmt.Errorf("behind %s=%s: no way from there to the LAN", name, o.Behind[name]))
		}
	}
	seen := map[Link]bool{}
	for _, l := range o.Links {
		switch {
		case !nodes[l.Node] || !routers[l.Router]:
			errs = append(errs, fmt.Errorf("link %s=%s: want a node and a router", l.Node, l.Router))
		case seen[l]:
			errs = append(errs, fmt.Errorf("link %s=%s: there is one already", l.Node, l.Router))
		}
		seen[l] = true
	}
	return errs
}

// entrance is the router on the LAN that a host is behind; empty if there is none.
func (o Options) entrance(name string) string {
	for range len(o.Behind) + 1 {
		next, behind := o.Behind[name]
		if !behind {
			return name
		}
		name = next
	}
	return "" // a circle
}

func numbered(name string, n int) map[string]bool {
	all := map[string]bool{}
	for i := range n {
		all[fmt.Sprintf("%s%d", name, i+1)] = true
	}
	return all
}

// ParseBehind reads a HOST=ROUTER argument into Behind.
func (o *Options) ParseBehind(arg string) error {
	host, router, ok := strings.Cut(arg, "=")
	if !ok || host == "" || router == "" {
		return fmt.Errorf("behind %q: want HOST=ROUTER, for example client1=tor1", arg)
	}
	if o.Behind == nil {
		o.Behind = map[string]string{}
	}
	o.Behind[host] = router
	return nil
}

// ParseLink reads a NODE=ROUTER argument into Links.
func (o *Options) ParseLink(arg string) error {
	node, router, ok := strings.Cut(arg, "=")
	if !ok || node == "" || router == "" {
		return fmt.Errorf("link %q: want NODE=ROUTER, for example node1=tor1", arg)
	}
	o.Links = append(o.Links, Link{Node: node, Router: router})
	return nil
}
