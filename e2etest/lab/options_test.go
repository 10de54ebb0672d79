// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		options Options
		want    string // part of the message; empty: valid
	}{
		{"the defaults", Options{}, ""},
		{"the biggest", Options{Nodes: 80, Clients: 20, Families: "dual", ProxyMode: "iptables"}, ""},
		{"no clients", Options{NoClients: true}, ""},
		{"a name for a path", Options{Name: "../x"}, `name "../x"`},
		{"too many nodes", Options{Nodes: 81}, "nodes 81: want 1 to 80"},
		{"IPVS", Options{ProxyMode: "ipvs"}, `proxy mode "ipvs": want nftables or iptables`},
		{"families", Options{Families: "both"}, `families "both": want ipv4, ipv6 or dual`},
		{"a small subnet", Options{Subnet: netip.MustParsePrefix("10.0.0.0/26")}, "subnet 10.0.0.0/26: want"},
		{"a LAN in the Service range", Options{Subnet: netip.MustParsePrefix("10.96.7.0/24")},
			"subnet 10.96.7.0/24 overlaps 10.96.0.0/16, the range of the Services"},
		{"a LAN around the Pod range", Options{Subnet: netip.MustParsePrefix("10.128.0.0/9")},
			"subnet 10.128.0.0/9 overlaps 10.244.0.0/16, the range of the Pods"},
		{"an IPv6 LAN in the Pod range", Options{Families: "dual", Subnet6: netip.MustParsePrefix("fd00:244:0:1::/64")},
			"subnet fd00:244:0:1::/64 overlaps fd00:244::/48, the range of the Pods"},
		{"an overlap in a family that is not used", Options{Subnet6: netip.MustParsePrefix("fd00:96::/64")}, ""},
		{"two routers of one name", Options{Routers: []Router{{Name: "a", Daemon: "frr"}, {Name: "a", Daemon: "bird"}}},
			"router a: another place has this name"},
		{"a router named like a node", Options{Routers: []Router{{Name: "node1", Daemon: "frr"}}}, "router node1: another"},
		{"behind routers", Options{Routers: frrs("a", "b"), Behind: map[string]string{"client1": "b", "b": "a"}, Links: []Link{{"node3", "b"}}}, ""},
		{"a node behind a router", Options{Routers: frrs("a"), Behind: map[string]string{"node1": "a"}}, "node1 is neither a client nor a router"},
		{"behind a client", Options{Routers: frrs("a"), Behind: map[string]string{"a": "client1"}}, "client1 is no router"},
		{"a circle", Options{Routers: frrs("a", "b"), Behind: map[string]string{"a": "b", "b": "a"}}, "no way from there to the LAN"},
		{"a link with a client", Options{Routers: frrs("a"), Links: []Link{{"client1", "a"}}}, "link client1=a: want a node and a router"},
		{"two links", Options{Routers: frrs("a"), Links: []Link{{"node1", "a"}, {"node1", "a"}}}, "link node1=a: there is one already"},
		{"a LAN where hosts behind routers are", Options{Subnet: netip.MustParsePrefix("10.99.1.0/24")}, "the range of the hosts behind routers"},
		{"an unknown daemon", Options{Routers: []Router{{Daemon: "quagga"}}}, `router router1: daemon "quagga"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := test.options.WithDefaults().validate()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func frrs(names ...string) []Router {
	var out []Router
	for _, name := range names {
		out = append(out, Router{Name: name, Daemon: "frr"})
	}
	return out
}

func TestLogs(t *testing.T) {
	t.Parallel()
	l := newLab(t.TempDir(), "x")
	for path, text := range map[string]string{
		"ns_web_1/app/0.log": "first\n", "ns_web_1/app/10.log": "last\n", "ns_web_1/app/2.log": "second\n",
		"ns_web-b_2/app/0.log": "other Pod\n", "ns_two_3/a/0.log": "a\n", "ns_two_3/b/0.log": "b\n",
	} {
		file := filepath.Join(l.LogDir(), "pods", path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for _, c := range [][2]string{{"web", ""}, {"two", "b"}, {"two", ""}, {"none", ""}} {
		data, err := l.Logs("ns", c[0], c[1])
		if err != nil {
			data = []byte("error: " + err.Error())
		}
		got[c[0]+"/"+c[1]] = string(data)
	}
	want := map[string]string{
		"web/": "first\nsecond\nlast\n", "two/b": "b\n",
		"two/":  "error: pod ns/two has several containers: name one",
		"none/": "error: no logs of ns/none, container *; there are: ns/two, ns/web-b, ns/web",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestListSkipsTheDead: a directory whose lock nobody holds is no lab, and the next start removes it.
func TestListSkipsTheDead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "dead"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dead", LockFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, lock, err := claim(Options{Name: "alive", StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	names, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"alive"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "dead")); !os.IsNotExist(err) {
		t.Errorf("the dead lab's directory: %v, want that it is gone", err)
	}
	if _, second, err := claim(Options{Name: "alive", StateDir: dir}); err == nil {
		second.Close()
		t.Error("the same name was given out twice")
	}
}

// TestCheckFilesNamesTargets: what to run is a target that the Makefile has.
func TestCheckFilesNamesTargets(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := Options{Root: root, Images: map[string]string{
		"heraldlb/speaker": filepath.Join(root, "bin", "speaker"), "other/speaker": "/nowhere/speaker",
	}, NoInstall: true}
	want := strings.Join([]string{
		root + "/bin/kube is missing: make bin/kube (the Kubernetes components; takes some minutes, once)",
		root + "/bin/speaker is missing: make build",
		"/nowhere/speaker is missing: it stands for image other/speaker",
	}, "\n")
	err := o.checkFiles()
	if err == nil {
		t.Fatal("nothing is missing in an empty directory")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseRouter(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a:b.conf")
	if err := os.WriteFile(file, []byte("protocol device {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ParseRouter("tor1=bird:" + file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Router{Name: "tor1", Daemon: "bird", Config: "protocol device {}\n"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, arg := range []string{"", "tor1", "bird:" + file, "=bird:" + file, "tor1=quagga:" + file, "tor1=frr:", "tor1=frr:/nowhere"} {
		if r, err := ParseRouter(arg); err == nil {
			t.Errorf("%q was read as %+v", arg, r)
		}
	}
}
