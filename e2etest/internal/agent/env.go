// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// objects fetches what Pods refer to. Missing optional objects are nil without an error.
type objects interface {
	configMap(ctx context.Context, namespace, name string, optional bool) (*corev1.ConfigMap, error)
	secret(ctx context.Context, namespace, name string, optional bool) (*corev1.Secret, error)
}

func (a *Agent) configMap(ctx context.Context, namespace, name string, optional bool) (*corev1.ConfigMap, error) {
	m, err := a.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if optional && apierrors.IsNotFound(err) {
		return nil, nil
	}
	return m, err
}

func (a *Agent) secret(ctx context.Context, namespace, name string, optional bool) (*corev1.Secret, error) {
	s, err := a.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if optional && apierrors.IsNotFound(err) {
		return nil, nil
	}
	return s, err
}

// podFacts is what the downward API can say about a Pod on this node.
type podFacts struct {
	pod           *corev1.Pod
	node          string
	nodeIPs, ips  []netip.Addr
	kubernetesIP  netip.Addr
	defaultMemory int64
}

// environment resolves a container's variables in their order, later ones seeing earlier ones.
func environment(ctx context.Context, o objects, f podFacts, c corev1.Container) (map[string]string, error) {
	env := map[string]string{
		"PATH":     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME":     "/root",
		"HOSTNAME": hostname(f.pod, f.node),
	}
	maps.Copy(env, kubernetesService(f.kubernetesIP))
	for _, from := range c.EnvFrom {
		if err := envFrom(ctx, o, f.pod.Namespace, from, env); err != nil {
			return nil, err
		}
	}
	for _, e := range c.Env {
		value, ok, err := envValue(ctx, o, f, c, e, env)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", e.Name, err)
		}
		if ok {
			env[e.Name] = value
		}
	}
	return env, nil
}

// kubernetesService is what in-cluster configuration looks for.
func kubernetesService(ip netip.Addr) map[string]string {
	const port = "443"
	url := "tcp://" + net.JoinHostPort(ip.String(), port)
	return map[string]string{
		"KUBERNETES_SERVICE_HOST": ip.String(), "KUBERNETES_SERVICE_PORT": port, "KUBERNETES_SERVICE_PORT_HTTPS": port,
		"KUBERNETES_PORT": url, "KUBERNETES_PORT_443_TCP": url, "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
		"KUBERNETES_PORT_443_TCP_PORT": port, "KUBERNETES_PORT_443_TCP_ADDR": ip.String(),
	}
}

func envFrom(ctx context.Context, o objects, namespace string, from corev1.EnvFromSource, env map[string]string) error {
	if ref := from.ConfigMapRef; ref != nil {
		m, err := o.configMap(ctx, namespace, ref.Name, isTrue(ref.Optional))
		if err != nil {
			return err
		}
		if m != nil {
			for key, value := range m.Data {
				env[from.Prefix+key] = value
			}
		}
	}
	if ref := from.SecretRef; ref != nil {
		s, err := o.secret(ctx, namespace, ref.Name, isTrue(ref.Optional))
		if err != nil {
			return err
		}
		if s != nil {
			for key, value := range s.Data {
				env[from.Prefix+key] = string(value)
			}
		}
	}
	return nil
}

// envValue returns false if an optional reference leads nowhere.
func envValue(ctx context.Context, o objects, f podFacts, c corev1.Container, e corev1.EnvVar, env map[string]string) (string, bool, error) {
	from := e.ValueFrom
	switch {
	case from == nil:
		return expand(e.Value, env), true, nil
	case from.FieldRef != nil:
		value, err := f.field(from.FieldRef.FieldPath)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err := f.resource(c, from.ResourceFieldRef)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		m, err := o.configMap(ctx, f.pod.Namespace, ref.Name, isTrue(ref.Optional))
		if err != nil || m == nil {
			return "", false, err
		}
		value, ok := m.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("no key %q in configmap %s/%s", ref.Key, f.pod.Namespace, ref.Name)
		}
		return value, ok, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, err := o.secret(ctx, f.pod.Namespace, ref.Name, isTrue(ref.Optional))
		if err != nil || s == nil {
			return "", false, err
		}
		value, ok := s.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("no key %q in secret %s/%s", ref.Key, f.pod.Namespace, ref.Name)
		}
		return string(value), ok, nil
	}
	return "", false, fmt.Errorf("this source is not supported in the lab")
}

// field resolves a downward API path.
func (f podFacts) field(path string) (string, error) {
	p := f.pod
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "metadata.labels":
		return formatMap(p.Labels), nil
	case "metadata.annotations":
		return formatMap(p.Annotations), nil
	case "spec.nodeName":
		return f.node, nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return f.nodeIPs[0].String(), nil
	case "status.hostIPs":
		return joinAddrs(f.nodeIPs), nil
	case "status.podIP":
		return f.ips[0].String(), nil
	case "status.podIPs":
		return joinAddrs(f.ips), nil
	}
	if key, ok := subscript(path, "metadata.labels"); ok {
		return p.Labels[key], nil
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return p.Annotations[key], nil
	}
	return "", fmt.Errorf("field %q is not known to the downward API", path)
}

// subscript reads the key of metadata.labels['key'].
func subscript(path, field string) (string, bool) {
	rest, ok := strings.CutPrefix(path, field+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

// resource resolves limits and requests. A limit that is not set is what the node has.
func (f podFacts) resource(c corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	kind, name, ok := strings.Cut(ref.Resource, ".")
	list := c.Resources.Requests
	if kind == "limits" {
		list = c.Resources.Limits
	}
	if !ok || (kind != "limits" && kind != "requests") {
		return "", fmt.Errorf("resource %q: want limits.NAME or requests.NAME", ref.Resource)
	}
	q, set := list[corev1.ResourceName(name)]
	switch {
	case name == "cpu" && !set:
		return "16", nil
	case !set:
		return strconv.FormatInt(f.defaultMemory, 10), nil
	case ref.Divisor.IsZero() && name == "cpu":
		return strconv.FormatInt((q.MilliValue()+999)/1000, 10), nil
	case ref.Divisor.IsZero():
		return strconv.FormatInt(q.Value(), 10), nil
	}
	divisor := ref.Divisor.MilliValue()
	return strconv.FormatInt((q.MilliValue()+divisor-1)/divisor, 10), nil
}

// expand replaces $(NAME) by the variable's value; an unknown name stays as it is, and $$ is a plain $.
func expand(s string, env map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if s[i+1] == '$' {
			b.WriteByte('$')
			i++
			continue
		}
		end := strings.IndexByte(s[i:], ')')
		if s[i+1] != '(' || end < 0 {
			b.WriteByte('$')
			continue
		}
		name := s[i+2 : i+end]
		if value, ok := env[name]; ok {
			b.WriteString(value)
		} else {
			b.WriteString(s[i : i+end+1])
		}
		i += end
	}
	return b.String()
}

func expandAll(list []string, env map[string]string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = expand(s, env)
	}
	return out
}

func envList(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, key := range slices.Sorted(maps.Keys(env)) {
		out = append(out, key+"="+env[key])
	}
	return out
}

func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s=%q", key, m[key]))
	}
	return strings.Join(lines, "\n")
}

func joinAddrs(list []netip.Addr) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return strings.Join(out, ",")
}

func hostname(pod *corev1.Pod, node string) string {
	switch {
	case pod.Spec.HostNetwork:
		return node
	case pod.Spec.Hostname != "":
		return pod.Spec.Hostname
	}
	return pod.Name[:min(len(pod.Name), 63)]
}

func isTrue(b *bool) bool { return b != nil && *b }

func itoa(n int32) string { return strconv.Itoa(int(n)) }
