// SPDX-License-Identifier: Apache-2.0

// Package agent stands in the kubelet's place on a node of the lab: it registers the Node and keeps its lease, starts
// kube-proxy, and runs the Pods that are bound to the node as processes.
//
// It talks to the API server as system:node:NAME from inside the node's network namespace, under the Node authorizer:
// a node whose cable is cut is cut off, and a Pod gets only what a real kubelet would be allowed to fetch for it.
package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Role is the hidden first argument that makes the lab program a Main.
const Role = "agent"

// Config is what an agent has to know.
type Config struct {
	Node     string
	IPs      []netip.Addr
	PodCIDRs []netip.Prefix
	Taints   []corev1.Taint
	// ServiceIP is the kubernetes Service's address, what in-cluster configuration finds.
	ServiceIP netip.Addr
	APIServer string
	CA        []byte
	Token     string
	// ServingCert and ServingKey are for the kubelet port, where the API server fetches logs.
	ServingCert, ServingKey []byte
	// Self is the lab program, Kube the Kubernetes program.
	Self, Kube  string
	ProxyMode   string
	ProxyToken  string
	ClusterCIDR string
	// Images maps image names to programs.
	Images map[string]string
	LogDir string
}

// base is the node's own place for Pods, below its private /run.
const base = "/run/lab-node"

// Agent runs one node.
type Agent struct {
	cfg    Config
	client kubernetes.Interface
	log    *slog.Logger
	ips    *addressPool

	mu      sync.Mutex // guards workers
	workers map[types.UID]*worker
}

// Main runs an agent; the one argument is the file of its Config.
func Main(ctx context.Context, args []string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(ctx, log, args); err != nil {
		log.Error("agent ends", "err", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, log *slog.Logger, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the configuration file, got %d", len(args))
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	a := &Agent{log: log, workers: map[types.UID]*worker{}}
	if err := json.Unmarshal(data, &a.cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	a.ips = newAddressPool(a.cfg.PodCIDRs)
	a.client, err = kubernetes.NewForConfig(&rest.Config{
		Host: a.cfg.APIServer, BearerToken: a.cfg.Token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: a.cfg.CA},
	})
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := a.register(ctx); err != nil {
		return err
	}
	group.Go(func() error { return a.runProxy(ctx) })
	group.Go(func() error { return a.keepLease(ctx) })
	group.Go(func() error { return a.serveLogs(ctx) })
	group.Go(func() error { return a.watchPods(ctx) })
	return group.Wait()
}

// watchPods gives each Pod of this node a worker and tells it of every change.
func (a *Agent) watchPods(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(a.client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", a.cfg.Node).String()
		}))
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { a.podChanged(ctx, obj.(*corev1.Pod)) },
		UpdateFunc: func(_, obj any) { a.podChanged(ctx, obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if pod, ok := obj.(*corev1.Pod); ok {
				a.podGone(pod.UID)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch Pods: %w", err)
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	return ctx.Err()
}

func (a *Agent) podChanged(ctx context.Context, pod *corev1.Pod) {
	a.mu.Lock()
	w, known := a.workers[pod.UID]
	if !known {
		w = newWorker(a, pod)
		a.workers[pod.UID] = w
	}
	a.mu.Unlock()
	if !known {
		go func() {
			w.run(ctx)
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.workers, pod.UID)
		}()
	}
	w.update(pod)
}

func (a *Agent) podGone(uid types.UID) {
	a.mu.Lock()
	w := a.workers[uid]
	a.mu.Unlock()
	if w != nil {
		w.gone()
	}
}

// runProxy keeps kube-proxy running on the node.
func (a *Agent) runProxy(ctx context.Context) error {
	path := filepath.Join(base, "kube-proxy.kubeconfig")
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: a.cfg.APIServer, CertificateAuthorityData: a.cfg.CA}
	config.AuthInfos["proxy"] = &clientcmdapi.AuthInfo{Token: a.cfg.ProxyToken}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "proxy"}
	config.CurrentContext = "lab"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("kube-proxy: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(a.cfg.LogDir, "kube-proxy-"+a.cfg.Node+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("kube-proxy: %w", err)
	}
	defer log.Close()
	for ctx.Err() == nil {
		// Connection tracking limits belong to the whole machine: leave them alone.
		cmd := exec.CommandContext(ctx, a.cfg.Kube, "kube-proxy", "--kubeconfig="+path, "--proxy-mode="+a.cfg.ProxyMode,
			"--hostname-override="+a.cfg.Node, "--cluster-cidr="+a.cfg.ClusterCIDR, "--conntrack-max-per-core=0",
			"--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0")
		cmd.Stdout, cmd.Stderr = log, log
		err := cmd.Run()
		a.log.Error("kube-proxy ended", "err", err)
		if !sleep(ctx, restartDelay) {
			break
		}
	}
	return ctx.Err()
}
