// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/core/lb"
)

func TestExclusions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	tests := []struct {
		name     string
		path     string
		excluded []string
		kept     []string
		err      string
	}{
		{"defaults", "", []string{"docker0", "veth1a2b", "lo", "kube-ipvs0", "cni0", "cali123", "flannel.1"}, []string{"eth0", "bond0", "enp1s0", "lon0", "br0"}, ""},
		{"file not there", filepath.Join(dir, "nothing"), []string{"docker0"}, []string{"eth0"}, ""},
		{"own list replaces the defaults", file("own", "announcedInterfacesToExclude: [\"^eth1$\"]\n"), []string{"eth1"}, []string{"eth10", "docker0"}, ""},
		{"empty list excludes nothing", file("empty", "announcedInterfacesToExclude: []\n"), nil, []string{"lo"}, ""},
		{"wrong pattern", file("pattern", "announcedInterfacesToExclude: [\"(\"]\n"), nil, nil, `pattern "("`},
		{"wrong key", file("key", "exclude: [a]\n"), nil, nil, "want announcedInterfacesToExclude"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ex, err := loadExclusions(tt.path)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range tt.excluded {
				if !ex.match(name) {
					t.Errorf("%s is not excluded", name)
				}
			}
			for _, name := range tt.kept {
				if ex.match(name) {
					t.Errorf("%s is excluded", name)
				}
			}
		})
	}
}

func TestFindPeers(t *testing.T) {
	t.Parallel()
	pod := func(node, ip string, change ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{PodIP: ip, Phase: corev1.PodRunning}}
		for _, c := range change {
			c(p)
		}
		return p
	}
	got := findPeers([]*corev1.Pod{
		pod("node3", "192.0.2.3"),
		pod("node1", "192.0.2.1"),
		pod("node2", ""), // starting
		pod("node4", "192.0.2.4", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
		pod("node5", "192.0.2.5", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }),
		pod("", ""), // not scheduled
		pod("self", "192.0.2.9"),
	}, "self", 7946)
	want := peers{
		nodes:     []lb.NodeName{"node1", "node2", "node3"},
		addresses: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7946"), netip.MustParseAddrPort("192.0.2.3:7946")},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(peers{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	err := (&Options{GossipBindPort: 70000, GossipLabels: "a in (", L2Probe: time.Minute, L2ProbeAgain: -1, L2Refresh: time.Second}).Validate()
	for _, want := range []string{"--namespace", "--node-name", "--ml-bindaddr", "--ml-bindport 70000", "--ml-secret-key-path", "--ml-labels",
		"--l2-probe 1m0s", "--l2-probe-again -1ns", "--l2-refresh 1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s: %v", want, err)
		}
	}
	good := Options{Namespace: "n", NodeName: "a", GossipBindAddr: "192.0.2.1", GossipBindPort: 7946, GossipSecretPath: "/x", GossipLabels: "app=herald",
		L2Probe: 300 * time.Millisecond, L2Refresh: time.Minute}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func TestGossipKeyNeverInError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := Options{GossipSecretPath: dir}
	if _, err := o.gossipKey(); err == nil || !strings.Contains(err.Error(), "is it mounted") {
		t.Errorf("missing key: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, secretKeyName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := o.gossipKey(); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("empty key: %v", err)
	}
}
