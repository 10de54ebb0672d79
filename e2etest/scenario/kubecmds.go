// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func kubeCommands() map[string]command {
	return map[string]command{
		"kubectl": {
			usage: "ARGS...",
			help:  "Run kubectl as administrator.",
			run: func(ctx context.Context, s *session, args []string) (string, error) {
				return s.kubectl(ctx, args...)
			},
		},
		"heraldctl": {
			usage: "ARGS...",
			help:  "Run heraldctl as administrator.",
			run: func(ctx context.Context, s *session, args []string) (string, error) {
				return s.exec(ctx, "cp", append([]string{filepath.Join(s.opts.Root, "bin", "heraldctl")}, args...)...)
			},
		},
		"apply": {
			usage: "[KUBECTL-FLAGS...] FILE...",
			help:  "kubectl apply for files of this archive, of config/samples, or of config/crd.",
			run:   apply,
		},
		"owner": {
			usage: "[-not NODE] [-n NAMESPACE] SERVICE",
			help:  "Wait until exactly one node (another than NODE) says that it announces the Service, and put its name into $owner.",
			run:   owner,
		},
		"leader": {
			usage: "[-not POD]",
			help:  "Wait until a controller (another than POD) leads, and put its Pod's name into $leader.",
			run:   leader,
		},
		"speaker": {
			usage: "NODE",
			help:  "Put the name of the speaker's Pod on that node into $speaker.",
			run:   speaker,
		},
		"condition": {
			usage: "[-n NAMESPACE] KIND NAME TYPE",
			help:  "Print status, reason and message of a condition in one line: True AddressAssigned ...",
			run:   condition,
		},
	}
}

func (s *session) kubectl(ctx context.Context, args ...string) (string, error) {
	r, err := s.here()
	if err != nil {
		return "", err
	}
	args = slices.Clone(args)
	for i := 1; i < len(args); i++ {
		if args[i-1] == "-f" && args[i] != "-" {
			args[i] = s.script.MkAbs(args[i])
		}
	}
	out, _, err := r.lab.Kubectl(ctx, nil, args...) // the error has standard error in it
	return string(out), err
}

func apply(ctx context.Context, s *session, args []string) (string, error) {
	kargs := []string{"apply"}
	for _, arg := range args {
		if filepath.Ext(arg) != ".yaml" {
			kargs = append(kargs, arg)
			continue
		}
		path, err := s.file(arg)
		if err != nil {
			return "", err
		}
		kargs = append(kargs, "-f", path)
	}
	return s.kubectl(ctx, kargs...)
}

// file finds a file of the archive, else of the samples.
func (s *session) file(name string) (string, error) {
	config := filepath.Join(s.opts.Root, "config")
	paths := []string{s.script.MkAbs(name), filepath.Join(config, "samples", name), filepath.Join(config, "crd", name)}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is neither in the archive nor in config/samples or config/crd", name)
}

// flags takes "-name value" pairs off the front of args, for the names that are allowed.
func flags(args []string, allowed ...string) (values map[string]string, rest []string, err error) {
	values = map[string]string{}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name := strings.TrimPrefix(args[0], "-")
		ok := false
		for _, a := range allowed {
			ok = ok || a == name
		}
		if !ok {
			return nil, nil, fmt.Errorf("no such flag -%s", name)
		}
		if len(args) < 2 {
			return nil, nil, fmt.Errorf("flag -%s wants a value", name)
		}
		values[name], args = args[1], args[2:]
	}
	return values, args, nil
}

func resource(group, version, name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: name}
}

func owner(ctx context.Context, s *session, args []string) (string, error) {
	f, rest, err := flags(args, "not", "n")
	if err != nil || len(rest) != 1 {
		return "", errors.Join(err, fmt.Errorf("want one Service, got %q", rest))
	}
	r, err := s.here()
	if err != nil {
		return "", err
	}
	ns := cmp.Or(f["n"], "default")
	selector := fmt.Sprintf("metallb.io/service-name=%s,metallb.io/service-namespace=%s", rest[0], ns)
	statuses := r.dynamic.Resource(resource("metallb.io", "v1beta1", "servicel2statuses")).Namespace(r.status.Namespace)
	var node string
	err = poll(ctx, defaultWait, func() error {
		list, err := statuses.List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		var nodes []string
		for _, item := range list.Items {
			n, _, _ := unstructured.NestedString(item.Object, "status", "node")
			nodes = append(nodes, n)
		}
		if len(nodes) != 1 || nodes[0] == "" || nodes[0] == f["not"] {
			return fmt.Errorf("%s is announced by %q according to its ServiceL2Status objects", rest[0], nodes)
		}
		node = nodes[0]
		return nil
	})
	s.script.Setenv("owner", node)
	s.announced = s.announced || err == nil
	return node + "\n", err
}

func leader(ctx context.Context, s *session, args []string) (string, error) {
	f, rest, err := flags(args, "not")
	if err != nil || len(rest) != 0 {
		return "", errors.Join(err, fmt.Errorf("unexpected %q", rest))
	}
	r, err := s.here()
	if err != nil {
		return "", err
	}
	var pod string
	err = poll(ctx, defaultWait, func() error {
		leases, err := r.kube.CoordinationV1().Leases(r.status.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, l := range leases.Items {
			// The holder is the Pod's name and something random.
			if h := l.Spec.HolderIdentity; h != nil && *h != "" {
				if name, _, _ := strings.Cut(*h, "_"); name != f["not"] {
					pod = name
					return nil
				}
			}
		}
		return fmt.Errorf("none of %d leases in %s is held by another than %q", len(leases.Items), r.status.Namespace, f["not"])
	})
	s.script.Setenv("leader", pod)
	return pod + "\n", err
}

func speaker(ctx context.Context, s *session, args []string) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("want one node, got %q", args)
	}
	r, err := s.here()
	if err != nil {
		return "", err
	}
	pods, err := r.kube.CoreV1().Pods(r.status.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + args[0]})
	if err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		// The speaker is the Pod that uses the node's network.
		if p.Spec.HostNetwork && p.DeletionTimestamp == nil {
			s.script.Setenv("speaker", p.Name)
			return p.Name + "\n", nil
		}
	}
	return "", fmt.Errorf("no speaker runs on %s", args[0])
}

func condition(ctx context.Context, s *session, args []string) (string, error) {
	f, rest, err := flags(args, "n")
	if err != nil || len(rest) != 3 {
		return "", errors.Join(err, fmt.Errorf("want KIND NAME TYPE, got %q", rest))
	}
	path := fmt.Sprintf(`jsonpath={range .status.conditions[?(@.type==%q)]}{.status} {.reason} {.message}{end}`, rest[2])
	out, err := s.kubectl(ctx, "get", rest[0], rest[1], "-n", cmp.Or(f["n"], "default"), "-o", path)
	if err == nil && out == "" {
		err = fmt.Errorf("%s %s has no condition %s", rest[0], rest[1], rest[2])
	}
	return strings.TrimSpace(out) + "\n", err
}
