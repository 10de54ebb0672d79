// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"io"
	"os/exec"

	"k8s.io/client-go/rest"
)

// Lab is a handle on a running lab. Its methods may be called from several goroutines.
type Lab struct {
	name string
	dir  string
}

var errNotYet = errors.New("the lab is not finished yet")

// Up starts a lab and waits until the cluster, and what Options install into it, is ready. The lab ends with Down, or when
// this process ends, unless Options.Keep or Detach say otherwise. An error names the component and its log, and
// leaves nothing running.
func Up(ctx context.Context, o Options) (*Lab, error) { return nil, errNotYet }

// Attach finds a running lab by name ("" is the default name).
func Attach(ctx context.Context, stateDir, name string) (*Lab, error) { return nil, errNotYet }

// List returns the names of the running labs, sorted.
func List(stateDir string) ([]string, error) { return nil, errNotYet }

// Down ends the lab and removes its state directory. It is no error if the lab is gone already.
func (l *Lab) Down(ctx context.Context) error { return errNotYet }

// Detach lets the lab outlive this process.
func (l *Lab) Detach() error { return errNotYet }

// Name returns the lab's name.
func (l *Lab) Name() string { return l.name }

// Dir returns the state directory, which is gone after Down.
func (l *Lab) Dir() string { return l.dir }

// Status asks the supervisor for the present state.
func (l *Lab) Status(ctx context.Context) (Status, error) { return Status{}, errNotYet }

// Kubeconfig returns the path of an administrator's kubeconfig; it works for programs inside the lab, as with Exec at
// "cp", since the API server's address exists only there. Programs outside use RESTConfig.
func (l *Lab) Kubeconfig() string { return "" }

// RESTConfig returns the administrator's client configuration for this process. It has no rate limit.
func (l *Lab) RESTConfig() (*rest.Config, error) { return nil, errNotYet }

// Kubectl runs kubectl as administrator, in this process's working directory. stdin may be nil.
func (l *Lab) Kubectl(ctx context.Context, stdin io.Reader, args ...string) (stdout, stderr []byte, err error) {
	return nil, nil, errNotYet
}

// Command prepares a command inside the lab: at node1, client1, router1, cp, or lan (where the bridge is, named "lan",
// with one port per machine, named like it). The caller sets Stdin, Stdout, Stderr and runs it. Cancelling ctx kills
// the command and its children.
func (l *Lab) Command(ctx context.Context, where string, argv ...string) (*exec.Cmd, error) {
	return nil, errNotYet
}

// Exec runs a command inside the lab and returns its standard output. The error holds the exit status and what the
// command wrote to standard error.
func (l *Lab) Exec(ctx context.Context, where string, argv ...string) ([]byte, error) {
	return nil, errNotYet
}

// Do runs fn on a thread that has joined the network namespace of that place. Sockets made by fn itself belong to that
// namespace and may be used outside of fn; goroutines that fn starts do not.
func (l *Lab) Do(where string, fn func() error) error { return errNotYet }

// NetnsPath returns the file of the network namespace of that place, valid in this process.
func (l *Lab) NetnsPath(where string) (string, error) { return "", errNotYet }

// Cut pulls the node's cable: the node's link loses its carrier.
func (l *Lab) Cut(ctx context.Context, node string) error { return errNotYet }

// Plug undoes Cut and Blackhole.
func (l *Lab) Plug(ctx context.Context, node string) error { return errNotYet }

// Blackhole stops every frame from and to the node, while its link stays up: a switch that died silently.
func (l *Lab) Blackhole(ctx context.Context, node string) error { return errNotYet }

// Unblackhole undoes Blackhole.
func (l *Lab) Unblackhole(ctx context.Context, node string) error { return errNotYet }

// Freeze stops every process of the node. Its kernel still answers: ARP for the node's own address, forwarding.
func (l *Lab) Freeze(ctx context.Context, node string) error { return errNotYet }

// Thaw undoes Freeze.
func (l *Lab) Thaw(ctx context.Context, node string) error { return errNotYet }

// Kill is a power cut: all processes of the node and its network are gone at once, nobody says goodbye.
func (l *Lab) Kill(ctx context.Context, node string) error { return errNotYet }

// Reboot is a power cut, if the node is on, and a fresh start of the node with the same name and addresses.
func (l *Lab) Reboot(ctx context.Context, node string) error { return errNotYet }

// Logs returns what a container has written so far, of all its runs if several. container may be empty if the Pod has
// only one.
func (l *Lab) Logs(ns, pod, container string) ([]byte, error) { return nil, errNotYet }

// LogDir returns the directory of all logs: components by name, Pods below pods/NAMESPACE_NAME_UID/CONTAINER/N.log.
func (l *Lab) LogDir() string { return "" }
