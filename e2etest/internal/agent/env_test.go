// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	env := map[string]string{"A": "1", "B": "two"}
	for in, want := range map[string]string{
		"":              "",
		"plain":         "plain",
		"$(A)":          "1",
		"x$(A)y$(B)z":   "x1ytwoz",
		"$(UNKNOWN)":    "$(UNKNOWN)",
		"$$(A)":         "$(A)",
		"$$$(A)":        "$1",
		"$A":            "$A",
		"$(A":           "$(A",
		"cost: 5$":      "cost: 5$",
		"--ip=$(A):$(B": "--ip=1:$(B",
	} {
		if got := expand(in, env); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

// fakeObjects holds the objects by name.
type fakeObjects struct {
	maps    map[string]map[string]string
	secrets map[string]map[string]string
}

func (f fakeObjects) configMap(_ context.Context, _, name string, optional bool) (*corev1.ConfigMap, error) {
	data, ok := f.maps[name]
	switch {
	case ok:
		return &corev1.ConfigMap{Data: data}, nil
	case optional:
		return nil, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (f fakeObjects) secret(_ context.Context, _, name string, optional bool) (*corev1.Secret, error) {
	data, ok := f.secrets[name]
	switch {
	case ok:
		s := &corev1.Secret{Data: map[string][]byte{}}
		for k, v := range data {
			s.Data[k] = []byte(v)
		}
		return s, nil
	case optional:
		return nil, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func facts() podFacts {
	return podFacts{
		pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: "p", Namespace: "ns", UID: "u1", Labels: map[string]string{"app": "web", "a/b": "c"},
			},
			Spec: corev1.PodSpec{ServiceAccountName: "sa"},
		},
		node: "node1", nodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		ips:          []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")},
		kubernetesIP: netip.MustParseAddr("10.96.0.1"), defaultMemory: 1 << 30,
	}
}

func field(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	yes := true
	objects := fakeObjects{
		maps:    map[string]map[string]string{"cm": {"K": "v", "URL": "u"}},
		secrets: map[string]map[string]string{"s": {"P": "secret"}},
	}
	ref := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	c := corev1.Container{
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{
			corev1.ResourceMemory: resource.MustParse("64Mi"), corev1.ResourceCPU: resource.MustParse("1500m"),
		}},
		EnvFrom: []corev1.EnvFromSource{
			{Prefix: "CM_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("cm")}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("none"), Optional: &yes}},
		},
		Env: []corev1.EnvVar{
			{Name: "A", Value: "a"},
			{Name: "B", Value: "$(A)-$(CM_K)-$(C)"}, // C comes later
			{Name: "C", Value: "c"},
			{Name: "NODE", ValueFrom: field("spec.nodeName")},
			{Name: "IP", ValueFrom: field("status.podIP")},
			{Name: "IPS", ValueFrom: field("status.podIPs")},
			{Name: "HOST", ValueFrom: field("status.hostIP")},
			{Name: "LABEL", ValueFrom: field("metadata.labels['a/b']")},
			{Name: "SA", ValueFrom: field("spec.serviceAccountName")},
			{Name: "PASS", ValueFrom: &corev1.EnvVarSource{
				SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("s"), Key: "P"},
			}},
			{Name: "GONE", ValueFrom: &corev1.EnvVarSource{
				ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("cm"), Key: "no", Optional: &yes},
			}},
			{Name: "MEM", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory"}}},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
		},
	}
	got, err := environment(t.Context(), objects, facts(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got["KUBERNETES_SERVICE_HOST"] != "10.96.0.1" || got["KUBERNETES_SERVICE_PORT"] != "443" {
		t.Errorf("in-cluster configuration: %q, %q", got["KUBERNETES_SERVICE_HOST"], got["KUBERNETES_SERVICE_PORT"])
	}
	for key := range got {
		if strings.HasPrefix(key, "KUBERNETES_") {
			delete(got, key)
		}
	}
	want := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "HOSTNAME": "p",
		"CM_K": "v", "CM_URL": "u", "A": "a", "B": "a-v-$(C)", "C": "c", "NODE": "node1", "IP": "10.0.0.2",
		"IPS": "10.0.0.2,fd00::2", "HOST": "192.0.2.1", "LABEL": "c", "SA": "sa", "PASS": "secret",
		"MEM": "67108864", "CPU": "2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEnvironmentMissing(t *testing.T) {
	t.Parallel()
	c := corev1.Container{Env: []corev1.EnvVar{{Name: "P", ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "late"}, Key: "k"},
	}}}}
	_, err := environment(t.Context(), fakeObjects{}, facts(), c)
	if !apierrors.IsNotFound(err) {
		t.Fatalf("a missing secret: %v, want not found", err)
	}
	if want := `environment variable P: secrets "late" not found`; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	objects := fakeObjects{secrets: map[string]map[string]string{"late": {"k": "v"}}}
	if env, err := environment(t.Context(), objects, facts(), c); err != nil || env["P"] != "v" {
		t.Errorf("once the secret exists: %q, %v", env["P"], err)
	}
}
