// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"

	"github.com/heraldlb/herald/e2etest/internal/wire"
	"github.com/heraldlb/herald/e2etest/lab"
)

// listen opens the control socket and the socket that leads to the API server.
func (s *Supervisor) listen(ctx context.Context, stop context.CancelCauseFunc) error {
	control, err := net.Listen("unix", filepath.Join(s.dir, lab.ControlSocket))
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	api, err := net.Listen("unix", filepath.Join(s.dir, lab.APISocket))
	if err != nil {
		return fmt.Errorf("API socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(s.status())
	})
	mux.HandleFunc("POST /v1/nodes/{node}/{action}", func(w http.ResponseWriter, r *http.Request) {
		if err := s.act(r.PathValue("node"), r.PathValue("action")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("POST /v1/down", func(http.ResponseWriter, *http.Request) { stop(errDown) })
	go func() { _ = http.Serve(control, mux) }()
	go s.forward(ctx, api)
	return nil
}

// forward joins each connection to one to the API server.
func (s *Supervisor) forward(ctx context.Context, l net.Listener) {
	dial := wire.Dialer(wire.Path(s.plan.cp.name))
	for {
		near, err := l.Accept()
		if err != nil {
			s.log.Error("API socket", "err", err)
			return
		}
		go func() {
			defer near.Close()
			far, err := dial(ctx, "tcp", s.plan.apiServer())
			if err != nil {
				s.log.Error("API socket", "err", err)
				return
			}
			defer far.Close()
			go func() {
				_, _ = io.Copy(far, near)
				_ = far.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(near, far)
		}()
	}
}

func (s *Supervisor) status() lab.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := lab.Status{
		Name: s.opts.Name, Ready: s.ready, Namespace: s.opts.Namespace, ProxyMode: s.opts.ProxyMode,
		Families: s.opts.Families, Kubernetes: s.version, APIServer: "https://" + s.plan.apiServer(),
		LAN: s.plan.lan, Pods: s.plan.pods, Services: s.plan.services,
	}
	for _, h := range s.plan.nodes {
		out := lab.NodeStatus{HostStatus: hostStatus(h), Pods: h.pods, Power: lab.PowerOff, Cable: lab.CableCut}
		if n, ok := s.nodes[h.name]; ok {
			out.Power, out.Cable = n.power, n.cable
			if n.machine != nil && !n.machine.ended() {
				out.InnerPID = n.machine.cmd.Process.Pid
			}
		}
		st.Nodes = append(st.Nodes, out)
	}
	for _, h := range s.plan.clients {
		st.Clients = append(st.Clients, hostStatus(h))
	}
	for _, h := range s.plan.routers {
		st.Routers = append(st.Routers, hostStatus(h))
	}
	return st
}

func hostStatus(h host) lab.HostStatus {
	return lab.HostStatus{Name: h.name, IPs: addrs(h.ips), MAC: h.mac.String()}
}
