// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/heraldlb/herald/e2etest/internal/container"
)

// eagerProbe is how often a container that was never ready is asked, if its probe's own period is longer. It makes
// start-up faster than under a kubelet, and changes nothing else: before the first success a failure has no effect.
const eagerProbe = 250 * time.Millisecond

// probeAll runs the startup probe, then the others, until ctx ends.
func (r *runner) probeAll(ctx context.Context, p *container.Process) {
	if r.spec.StartupProbe != nil {
		if !r.probe(ctx, p, "Startup", r.spec.StartupProbe) {
			return
		}
		r.change(func(st *containerState) { st.started = true })
	}
	var probing sync.WaitGroup
	if r.spec.LivenessProbe != nil {
		probing.Go(func() { r.probe(ctx, p, "Liveness", r.spec.LivenessProbe) })
	}
	if r.spec.ReadinessProbe != nil {
		probing.Go(func() { r.probe(ctx, p, "Readiness", r.spec.ReadinessProbe) })
	} else {
		r.change(func(st *containerState) { st.ready = true })
	}
	probing.Wait()
}

// verdict counts results as a probe's thresholds want it.
type verdict struct {
	successThreshold, failureThreshold int32
	successes, failures                int32
}

// add takes one result and says whether a threshold was reached just now or before.
func (v *verdict) add(err error) (succeeded, failed bool) {
	if err == nil {
		v.successes, v.failures = v.successes+1, 0
	} else {
		v.successes, v.failures = 0, v.failures+1
	}
	return v.successes >= v.successThreshold, v.failures >= v.failureThreshold
}

// probe runs one probe. A startup probe returns true at its success; all return when ctx ends or the container is given up.
func (r *runner) probe(ctx context.Context, p *container.Process, kind string, probe *corev1.Probe) bool {
	if !sleep(ctx, seconds(probe.InitialDelaySeconds, 0)) {
		return false
	}
	period := seconds(probe.PeriodSeconds, 10)
	v := verdict{successThreshold: max(probe.SuccessThreshold, 1), failureThreshold: max(probe.FailureThreshold, 1)}
	for {
		err := r.check(ctx, p, probe.ProbeHandler, seconds(probe.TimeoutSeconds, 1))
		if ctx.Err() != nil {
			return false
		}
		succeeded, failed := v.add(err)
		wait := period
		switch {
		case kind == "Readiness" && (succeeded || failed):
			r.setReady(succeeded)
		case kind == "Startup" && succeeded:
			return true
		case kind != "Readiness" && failed:
			r.unhealthy <- fmt.Sprintf("container %s failed its %s probe: %v", r.spec.Name, strings.ToLower(kind), err)
			return false
		}
		if err != nil && v.failures == 1 && r.snapshot().ready {
			r.w.agent.warn(ctx, r.vols.facts.pod, "Unhealthy", fmt.Sprintf("%s probe failed: %v", kind, err))
		}
		if kind == "Readiness" && !r.snapshot().ready {
			wait = min(wait, eagerProbe)
		}
		if !sleep(ctx, wait) {
			return false
		}
	}
}

func (r *runner) setReady(ready bool) {
	if r.snapshot().ready != ready {
		r.change(func(st *containerState) { st.ready = ready })
	}
}

func seconds(n, otherwise int32) time.Duration {
	if n == 0 {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

// check asks once.
func (r *runner) check(ctx context.Context, p *container.Process, h corev1.ProbeHandler, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case h.HTTPGet != nil:
		return r.httpGet(ctx, h.HTTPGet)
	case h.TCPSocket != nil:
		address, err := r.address(h.TCPSocket.Host, h.TCPSocket.Port)
		if err != nil {
			return err
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	case h.Exec != nil:
		return inside(ctx, p, h.Exec.Command)
	}
	return errors.New("this kind of probe is not supported in the lab")
}

func (r *runner) preStop(ctx context.Context, p *container.Process, h *corev1.LifecycleHandler) error {
	switch {
	case h.Sleep != nil:
		sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
		return nil
	case h.Exec != nil:
		return inside(ctx, p, h.Exec.Command)
	case h.HTTPGet != nil:
		return r.httpGet(ctx, h.HTTPGet)
	}
	return errors.New("this kind of hook is not supported in the lab")
}

func inside(ctx context.Context, p *container.Process, argv []string) error {
	argv = p.Inside(argv...)
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (r *runner) httpGet(ctx context.Context, get *corev1.HTTPGetAction) error {
	address, err := r.address(get.Host, get.Port)
	if err != nil {
		return err
	}
	scheme := strings.ToLower(string(get.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	u, err := url.Parse(get.Path)
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	u.Scheme, u.Host = scheme, address
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/lab")
	for _, h := range get.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		// A probe asks whether the server works, not who it is.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with status code %d", resp.StatusCode)
	}
	return nil
}

// address is the probe's target: by default the Pod's first address, and a port by number or by name.
func (r *runner) address(host string, port intstr.IntOrString) (string, error) {
	if host == "" {
		host = r.vols.facts.ips[0].String()
	}
	if port.Type == intstr.Int {
		return net.JoinHostPort(host, itoa(port.IntVal)), nil
	}
	for _, p := range r.spec.Ports {
		if p.Name == port.StrVal {
			return net.JoinHostPort(host, itoa(p.ContainerPort)), nil
		}
	}
	return "", fmt.Errorf("no port named %q", port.StrVal)
}
