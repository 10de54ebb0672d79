// SPDX-License-Identifier: Apache-2.0

// Package echo is the server that stands for every image the lab does not know. It answers each request, over HTTP or
// UDP, with who it is and who asked, one key=value per line:
//
//	pod=test-pod-x7k2p
//	namespace=default
//	node=node2
//	client=192.168.2.101
//	port=80
package echo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Role is the hidden first argument that makes the lab program a Main.
const Role = "echo"

// Main serves until SIGTERM. The arguments are what to listen on: tcp/80, udp/53, ...
func Main(ctx context.Context, args []string) int {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	who := fmt.Sprintf("pod=%s\nnamespace=%s\nnode=%s\n", os.Getenv("LAB_POD"), os.Getenv("LAB_NAMESPACE"), os.Getenv("LAB_NODE"))
	if err := serve(ctx, who, args); err != nil {
		fmt.Fprintf(os.Stderr, "echo: %v\n", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, who string, listen []string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, arg := range listen {
		network, port, _ := strings.Cut(arg, "/")
		switch network {
		case "tcp":
			group.Go(func() error { return serveHTTP(ctx, who, port) })
		case "udp":
			group.Go(func() error { return serveUDP(ctx, who, port) })
		default:
			return fmt.Errorf("listen on %q: want tcp/PORT or udp/PORT", arg)
		}
	}
	return group.Wait()
}

func answer(who, client, port string) string {
	if ap, err := netip.ParseAddrPort(client); err == nil {
		client = ap.Addr().Unmap().String()
	}
	return fmt.Sprintf("%sclient=%s\nport=%s\n", who, client, port)
}

func serveHTTP(ctx context.Context, who, port string) error {
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprint(w, answer(who, r.RemoteAddr, port))
		}),
	}
	// No keep-alive: a connection on which nobody asks is to be idle, as those of many servers are.
	l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", ":"+port)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "echo: HTTP on %s\n", l.Addr())
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		// Requests that have begun are answered; ctx is over, so the time for that needs its own.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = server.Shutdown(last)
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-done
	return nil
}

func serveUDP(ctx context.Context, who, port string) error {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", ":"+port)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "echo: UDP on %s\n", conn.LocalAddr())
	go func() {
		<-ctx.Done()
		_ = conn.Close()
	}()
	buffer := make([]byte, 64<<10)
	for {
		_, client, err := conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil // by us, see above
		}
		if err != nil {
			return err
		}
		_, _ = conn.WriteTo([]byte(answer(who, client.String(), port)), client) // UDP: who asked may be gone
	}
}
