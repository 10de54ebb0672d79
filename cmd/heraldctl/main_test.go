// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const dumped = `
format: heraldlb.io/dump/v1
taken: "2026-03-01T12:00:00Z"
namespace: lb
notes: [something could not be read]
namespaces:
- metadata: {name: shop}
ipAddressPools:
- metadata: {name: main, namespace: lb}
  spec: {addresses: [192.0.2.0/28]}
services:
- metadata: {name: web, namespace: shop, annotations: {metallb.io/ip-allocated-from-pool: main}}
  spec: {type: LoadBalancer, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1]}
  status: {loadBalancer: {ingress: [{ip: 192.0.2.0}]}}
`

// run runs heraldctl with the dump on standard input.
func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := command()
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(dumped))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func TestFromDump(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args           string
		stdout, stderr string // parts of what is printed; stdout "": nothing
	}{
		{"addresses --from -", "192.0.2.0   shop/web   main", "note: something could not be read"},
		{"addresses --from - -o json --pool main -n shop", `"pool": "main"`, ""},
		{"addresses --from - -n bank", "ADDRESS", "No Service has an address in namespace bank."},
		{"explain service shop/web --from -", "Service shop/web has 192.0.2.0, but nobody answers for it: NoAdvertisement.", ""},
		{"explain svc -n shop web --from -", "something could not be read", ""},
		{"version", "dev", ""},
	} {
		t.Run(tc.args, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, err := run(t, strings.Fields(tc.args)...)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) {
				t.Errorf("printed\n%s\nand to standard error\n%s\nwant %q and %q in them", stdout, stderr, tc.stdout, tc.stderr)
			}
		})
	}
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"addresses --from - -o xml":                 "give -o table, wide, json or yaml",
		"addresses --from - --pool mian":            `no IPAddressPool "mian" in namespace lb: the only pool is main`,
		"addresses --from - --lb-class x":           "--lb-class does not go with --from",
		"addresses --from /nonexistent":             "no such file",
		"addresses --kubeconfig /nonexistent":       "find the cluster: ",
		"explain service --from -":                  "name one Service",
		"explain service a/b/c --from -":            "write NAMESPACE/NAME",
		"explain service shop/web -n bank --from -": "leave out one of the two",
		"explain service web --from -":              "there is no Service default/web, but there is shop/web",
		"explain pool main":                         `"pool" cannot be explained`,
		"dump a b":                                  "accepts at most 1 arg",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			if _, _, err := run(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one with %q", err, want)
			}
		})
	}
}

// A dump of an empty cluster, found by --kubeconfig, goes to a file, and is
// read back.
func TestDumpOfCluster(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"metadata":{},"items":[]}`))
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	config := "apiVersion: v1\nkind: Config\ncurrent-context: here\n" +
		"contexts: [{name: here, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: " + server.URL + "}}]\nusers: [{name: u, user: {}}]\n"
	if err := os.WriteFile(kubeconfig, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"c.yaml", "c.json"} {
		file := filepath.Join(dir, name)
		if _, _, err := run(t, "dump", file, "--kubeconfig", kubeconfig, "--herald-namespace", "lb"); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if isJSON := strings.HasPrefix(string(data), "{"); isJSON != (name == "c.json") {
			t.Errorf("%s begins with %.20q", name, data)
		}
		if _, _, err := run(t, "addresses", "--from", file); err != nil {
			t.Errorf("read %s back: %v", name, err)
		}
		if _, _, err := run(t, "dump", file, "--kubeconfig", kubeconfig); err == nil {
			t.Errorf("%s was overwritten", name)
		}
	}
}
