// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/heraldlb/herald/e2etest/internal/pki"
	"github.com/heraldlb/herald/e2etest/internal/wire"
)

// identity is a user of the API server.
type identity struct {
	user   string
	groups string
	token  string
}

// credentials are the keys of the control plane, written to files below dir.
type credentials struct {
	dir        string
	authority  *pki.Authority
	identities map[string]identity // by the name of who uses it
}

func (c *credentials) file(name string) string       { return filepath.Join(c.dir, name) }
func (c *credentials) kubeconfig(name string) string { return c.file(name + ".kubeconfig") }

func makeCredentials(dir string, p plan, now time.Time) (*credentials, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	authority, err := pki.NewAuthority("lab", now)
	if err != nil {
		return nil, err
	}
	c := &credentials{dir: dir, authority: authority, identities: map[string]identity{
		"admin":                   {user: "admin", groups: "system:masters"},
		"kube-controller-manager": {user: "system:kube-controller-manager"},
		"kube-scheduler":          {user: "system:kube-scheduler"},
		"kube-proxy":              {user: "system:kube-proxy"},
	}}
	for _, n := range p.nodes {
		c.identities[n.name] = identity{user: "system:node:" + n.name, groups: "system:nodes"}
	}
	ips := append(addrs(p.cp.ips), netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())
	ips = append(ips, p.kubernetesService()...)
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	cert, key, err := authority.Serving("kube-apiserver", names, ips, now)
	if err != nil {
		return nil, err
	}
	_, serviceAccountKey, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	var tokens strings.Builder
	for name, id := range c.identities {
		id.token = pki.Token()
		c.identities[name] = id
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", id.token, id.user, name, id.groups)
	}
	errs := []error{
		os.WriteFile(c.file("ca.crt"), authority.PEM, 0o600),
		os.WriteFile(c.file("apiserver.crt"), cert, 0o600),
		os.WriteFile(c.file("apiserver.key"), key, 0o600),
		os.WriteFile(c.file("service-account.key"), serviceAccountKey, 0o600),
		os.WriteFile(c.file("tokens.csv"), []byte(tokens.String()), 0o600),
	}
	for name, id := range c.identities {
		errs = append(errs, writeKubeconfig(c.kubeconfig(name), "https://"+p.apiServer(), authority.PEM, id))
	}
	return c, errors.Join(errs...)
}

func writeKubeconfig(path, server string, ca []byte, id identity) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[id.user] = &clientcmdapi.AuthInfo{Token: id.token}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: id.user}
	config.CurrentContext = "lab"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return nil
}

// restConfig is the administrator's access from the supervisor itself, which is not on the LAN.
func (s *Supervisor) restConfig() *rest.Config {
	return &rest.Config{
		Host:            "https://" + s.plan.apiServer(),
		BearerToken:     s.creds.identities["admin"].token,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.creds.authority.PEM},
		Dial:            wire.Dialer(wire.Path(s.plan.cp.name)),
		QPS:             -1,
	}
}

// startControlPlane starts etcd and the API server, waits for them, then starts the others.
func (s *Supervisor) startControlPlane(ctx context.Context) error {
	ns, creds := wire.Path(s.plan.cp.name), s.creds
	etcd, err := s.startComponent("etcd", ns, s.kube, "etcd", "--data-dir="+filepath.Join(s.private, "etcd"),
		"--unsafe-no-fsync", "--log-level=warn", "--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380", "--initial-cluster=default=http://127.0.0.1:2380")
	if err != nil {
		return err
	}
	flags, err := s.auditFlags()
	if err != nil {
		return err
	}
	api, err := s.startComponent("kube-apiserver", ns, append(s.apiServerFlags(), flags...)...)
	if err != nil {
		return err
	}
	s.client, err = kubernetes.NewForConfig(s.restConfig())
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	err = until(ctx, 50*time.Millisecond, []*component{etcd, api}, func() (bool, error) {
		return s.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil, nil
	})
	if ctx.Err() != nil {
		return errors.Join(api.failure(errors.New("not ready in time")), etcd.failure(errors.New("for comparison")))
	}
	if err != nil {
		return err
	}
	manager := []string{
		s.kube, "kube-controller-manager", "--kubeconfig=" + creds.kubeconfig("kube-controller-manager"),
		"--service-account-private-key-file=" + creds.file("service-account.key"), "--root-ca-file=" + creds.file("ca.crt"),
		"--use-service-account-credentials", "--leader-elect=false", "--bind-address=127.0.0.1",
		"--allocate-node-cidrs=false", "--cluster-cidr=" + join(s.plan.pods), "--kube-api-qps=500", "--kube-api-burst=500",
		"--cert-dir=" + filepath.Join(s.private, "kcm"),
	}
	if s.opts.MonitorGrace != "" {
		manager = append(manager, "--node-monitor-grace-period="+s.opts.MonitorGrace)
	}
	if _, err := s.startComponent("kube-controller-manager", ns, manager...); err != nil {
		return err
	}
	_, err = s.startComponent("kube-scheduler", ns, s.kube, "kube-scheduler",
		"--kubeconfig="+creds.kubeconfig("kube-scheduler"), "--leader-elect=false", "--bind-address=127.0.0.1",
		"--kube-api-qps=500", "--kube-api-burst=500", "--cert-dir="+filepath.Join(s.private, "scheduler"))
	return err
}

// auditPolicy records who asked for what and when, of the ServiceAccounts of one namespace.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts:%s"]}
- {level: None}
`

func (s *Supervisor) auditFlags() ([]string, error) {
	if !s.opts.Audit {
		return nil, nil
	}
	policy := s.creds.file("audit.yaml")
	if err := os.WriteFile(policy, fmt.Appendf(nil, auditPolicy, s.opts.Namespace), 0o600); err != nil {
		return nil, fmt.Errorf("audit policy: %w", err)
	}
	return []string{"--audit-policy-file=" + policy, "--audit-log-path=" + filepath.Join(s.logs, "audit.log")}, nil
}

func (s *Supervisor) apiServerFlags() []string {
	creds := s.creds
	return []string{
		s.kube, "kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address=" + s.plan.cp.ips[0].Addr().String(), "--secure-port=6443",
		"--tls-cert-file=" + creds.file("apiserver.crt"), "--tls-private-key-file=" + creds.file("apiserver.key"),
		"--cert-dir=" + filepath.Join(s.private, "apiserver"),
		"--token-auth-file=" + creds.file("tokens.csv"), "--client-ca-file=" + creds.file("ca.crt"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + creds.file("service-account.key"),
		"--service-account-signing-key-file=" + creds.file("service-account.key"),
		"--service-cluster-ip-range=" + join(s.plan.services),
		"--kubelet-certificate-authority=" + creds.file("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--profiling=false",
	}
}
