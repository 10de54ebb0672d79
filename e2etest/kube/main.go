// SPDX-License-Identifier: Apache-2.0

// Command kube is a whole Kubernetes control plane in one program: the lab starts it once per component and names
// the component as the first argument. One binary instead of six keeps the build short, since the components share
// almost all of their code.
//
// It is a module of its own so that the lab, which everybody compiles all the time, never has to load the
// dependencies of k8s.io/kubernetes.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	_ "time/tzdata" // CronJobs may name a time zone, and the machine may have none

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics on /metrics, as in the released programs
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const usage = "usage: kube etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy|kubectl [flags]"

func main() {
	os.Exit(run(os.Args))
}

// run starts the component that the program's own name (a link called kubectl, say) or the first argument names.
func run(args []string) int {
	name := filepath.Base(args[0])
	if !known(name) {
		if len(args) < 2 || !known(args[1]) {
			fmt.Fprintln(os.Stderr, usage)
			return 2
		}
		name, args = args[1], args[1:]
		os.Args = args // the components read os.Args themselves
	}
	switch name {
	case "etcd":
		etcdmain.Main(args)
		return 0
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			util.CheckErr(err) // prints and exits with the code of the failure
		}
		return 0
	}
	return cli.Run(command(name))
}

func known(name string) bool {
	return slices.Contains([]string{
		"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl",
	}, name)
}

func command(name string) *cobra.Command {
	switch name {
	case "kube-apiserver":
		return apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		return controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		return scheduler.NewSchedulerCommand()
	case "kube-proxy":
		return proxy.NewProxyCommand()
	}
	panic("kube: no command for " + name)
}
