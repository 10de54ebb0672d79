// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
)

func labCommands() map[string]command {
	return map[string]command{
		"lab": {
			usage: "[name=KEY] [nodes=N] [clients=N] [proxy=nftables|iptables] [families=ipv4|ipv6|dual] [namespace=NS] [grace=10s] [set=KEY=VALUE] [router=NAME=frr|bird:FILE] [behind=HOST=ROUTER] [link=NODE=ROUTER] [install=no]",
			help: "Start a lab, with Herald installed from its chart, and work on it from now on. set is Helm's --set; grace is after how\n" +
				"    long a silent node counts as lost; install=no leaves Herald out. behind takes a client or a router off the LAN: it reaches it\n" +
				"    through that router only (10.99.N.2, where N would be the end of its address on the LAN). link is a cable of its own with\n" +
				"    link-local addresses only; at both ends the interface has the name of the other end.",
			run: startLab,
		},
		"use": {
			usage: "KEY",
			help:  "Work on another of the scenario's labs from now on.",
			run:   useLab,
		},
		"down": {
			usage: "[KEY]",
			help:  "End a lab, and check that it leaves nothing behind: no process, no namespace, no interface, no mount, no directory.",
			run:   endLab,
		},
		"node": {
			usage: "cut|plug|blackhole|unblackhole|freeze|thaw|kill|reboot NODE",
			help: "cut: the cable is pulled, plug: put back. blackhole: nothing passes, though the link stays up. freeze: all processes stand\n" +
				"    still, thaw: go on. kill: power cut, reboot: power cut and start.",
			run: changeNode,
		},
		"two-owners": {
			usage: "limit TIME REASON... | expect REASON...",
			help: "Every scenario fails when two machines answer for one address for longer than 100 ms. limit allows longer, expect demands that\n" +
				"    the checker sees it; both want the reason in words.",
			run: setOverlap,
		},
		"heard": {
			usage: "",
			help:  "Print how many addresses each machine was heard to claim so far, by answer or announcement: node1 (02:...) 3.",
			run: func(_ context.Context, s *session, _ []string) (string, error) {
				r, err := s.here()
				if err != nil {
					return "", err
				}
				return r.watcher.Claimants()
			},
		},
		"break": {
			usage: "",
			help:  "Stop here until the operator goes on, and say how to look around. Needs a terminal.",
			run: func(_ context.Context, s *session, _ []string) (string, error) {
				return "", s.prompt("break")
			},
		},
	}
}

const defaultKey = "a"

// parseLab reads the arguments of the command lab.
func parseLab(args []string) (key string, o lab.Options, err error) {
	key = defaultKey
	for _, arg := range args {
		k, v, ok := strings.Cut(arg, "=")
		if !ok || v == "" {
			return "", o, fmt.Errorf("%q: want KEY=VALUE", arg)
		}
		switch k {
		case "name":
			key = v
		case "nodes":
			o.Nodes, err = strconv.Atoi(v)
		case "clients":
			o.Clients, err = strconv.Atoi(v)
		case "proxy":
			o.ProxyMode = v
		case "families":
			o.Families = v
		case "namespace":
			o.Namespace = v
		case "grace":
			_, err = time.ParseDuration(v)
			o.MonitorGrace = v
		case "set":
			o.ChartValues = append(o.ChartValues, v)
		case "router":
			err = addRouter(&o, v)
		case "behind":
			err = o.ParseBehind(v)
		case "link":
			err = o.ParseLink(v)
		case "install":
			o.NoInstall = v == "no"
			if v != "no" && v != "yes" {
				err = fmt.Errorf("want yes or no")
			}
		default:
			err = fmt.Errorf("no such option")
		}
		if err != nil {
			return "", o, fmt.Errorf("%q: %w", arg, err)
		}
	}
	return key, o, nil
}

// addRouter notes a router; Config is the name of its file until the lab starts.
func addRouter(o *lab.Options, text string) error {
	name, rest, _ := strings.Cut(text, "=")
	daemon, file, ok := strings.Cut(rest, ":")
	if !ok || name == "" || file == "" || daemon != "frr" && daemon != "bird" {
		return fmt.Errorf("want NAME=frr:FILE or NAME=bird:FILE")
	}
	o.Routers = append(o.Routers, lab.Router{Name: name, Daemon: daemon, Config: file})
	return nil
}

func startLab(ctx context.Context, s *session, args []string) (string, error) {
	key, o, err := parseLab(args)
	if err != nil {
		return "", err
	}
	for i := range o.Routers {
		path, err := s.file(o.Routers[i].Config)
		if err != nil {
			return "", err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		o.Routers[i].Config = string(text)
	}
	return "", s.up(ctx, key, o)
}

func useLab(_ context.Context, s *session, args []string) (string, error) {
	if len(args) != 1 || s.labs[args[0]] == nil {
		return "", fmt.Errorf("want the name of a lab that this scenario started, got %q", args)
	}
	s.current = s.labs[args[0]]
	return "", nil
}

func endLab(ctx context.Context, s *session, args []string) (string, error) {
	r, err := s.here()
	if err != nil {
		return "", err
	}
	if len(args) == 1 {
		if r = s.labs[args[0]]; r == nil {
			return "", fmt.Errorf("no lab %q", args[0])
		}
	}
	if err := s.judge(r.watcher); err != nil {
		return "", err
	}
	before, err := traces(r)
	if err != nil {
		return "", err
	}
	defer before.release()
	if err := r.stop(); err != nil {
		return "", fmt.Errorf("two-owners checker: %w", err)
	}
	if err := r.lab.Down(ctx); err != nil {
		return "", err
	}
	delete(s.labs, r.key)
	if s.current == r {
		s.current = nil
	}
	return "", before.gone(ctx)
}

func changeNode(ctx context.Context, s *session, args []string) (string, error) {
	r, err := s.here()
	if err != nil {
		return "", err
	}
	if len(args) != 2 {
		return "", fmt.Errorf("want a verb and a node, got %q", args)
	}
	verbs := map[string]func(context.Context, string) error{
		"cut": r.lab.Cut, "plug": r.lab.Plug, "blackhole": r.lab.Blackhole, "unblackhole": r.lab.Unblackhole,
		"freeze": r.lab.Freeze, "thaw": r.lab.Thaw, "kill": r.lab.Kill, "reboot": r.lab.Reboot,
	}
	do := verbs[args[0]]
	if do == nil {
		return "", fmt.Errorf("%q is nothing that can be done to a node", args[0])
	}
	return "", do(ctx, args[1])
}

func setOverlap(_ context.Context, s *session, args []string) (string, error) {
	switch {
	case len(args) >= 3 && args[0] == "limit":
		d, err := time.ParseDuration(args[1])
		if err != nil {
			return "", fmt.Errorf("limit: %w", err)
		}
		s.limit, s.why = d, strings.Join(args[2:], " ")
	case len(args) >= 2 && args[0] == "expect":
		s.expected, s.why = true, strings.Join(args[1:], " ")
	default:
		return "", fmt.Errorf("want: limit TIME REASON... or expect REASON..., got %q", args)
	}
	return "", nil
}
