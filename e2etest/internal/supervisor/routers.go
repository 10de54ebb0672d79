// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/heraldlb/herald/e2etest/internal/wire"
	"github.com/heraldlb/herald/e2etest/lab"
)

// startRouters starts the routing daemons.
func (s *Supervisor) startRouters(ctx context.Context) error {
	for _, r := range s.opts.Routers {
		dir := filepath.Join(lab.RouterDir, r.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("router %s: %w", r.Name, err)
		}
		config := filepath.Join(dir, r.Daemon+".conf")
		if err := os.WriteFile(config, []byte(r.Config), 0o644); err != nil {
			return fmt.Errorf("router %s: %w", r.Name, err)
		}
		err := wire.Sysctl(wire.Path(r.Name), "ipv4.ip_forward=1", "-ipv6.conf.all.forwarding=1",
			"-ipv4.fib_multipath_hash_policy=1", "-ipv6.fib_multipath_hash_policy=1")
		if err != nil {
			return fmt.Errorf("router %s: %w", r.Name, err)
		}
		start := s.startBIRD
		if r.Daemon == "frr" {
			start = s.startFRR
		}
		if err := start(ctx, r.Name, dir, config); err != nil {
			return err
		}
	}
	return nil
}

func (s *Supervisor) startBIRD(ctx context.Context, name, dir, config string) error {
	socket := filepath.Join(dir, "bird.ctl")
	bird, err := s.startComponent(name, wire.Path(name), "bird", "-f", "-c", config, "-s", socket)
	if err != nil {
		return err
	}
	return awaitFile(ctx, socket, bird)
}

// startFRR starts each daemon without a configuration and then loads the whole file into them: a daemon by itself
// stumbles over the lines that are meant for the others. With -N everything of a router is in /run/frr/NAME.
func (s *Supervisor) startFRR(ctx context.Context, name, _, config string) error {
	dir := filepath.Join("/run/frr", name)
	if err := giveToFRR(dir); err != nil {
		return fmt.Errorf("router %s: %w", name, err)
	}
	for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
		// A daemon that crashes leaves notes in /var/tmp: not in the host's.
		c, err := s.startComponent(name+"-"+daemon, wire.Path(name), "unshare", "--mount", "--propagation=private", "sh", "-c",
			`mount -t tmpfs none /var/tmp && exec "$@"`, "sh",
			"/usr/lib/frr/"+daemon, "-N", name, "-f", "/dev/null", "-A", "127.0.0.1", "--log", "stdout")
		if err != nil {
			return err
		}
		if err := awaitFile(ctx, filepath.Join(dir, daemon+".vty"), c); err != nil {
			return err
		}
	}
	return s.runIn(ctx, name+"-vtysh", name, "vtysh", "-N", name, "-f", config)
}

// giveToFRR makes a directory that belongs to the daemons' own user, to whom they change.
func giveToFRR(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	u, err := user.Lookup("frr")
	if err != nil {
		return err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return errors.Join(err1, err2, os.Chown(filepath.Dir(dir), uid, gid), os.Chown(dir, uid, gid))
}

// awaitFile waits until a component has made its socket.
func awaitFile(ctx context.Context, path string, c *component) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := until(ctx, 20*time.Millisecond, []*component{c}, func() (bool, error) {
		_, err := os.Stat(path)
		return err == nil, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return c.failure(fmt.Errorf("no socket %s in time", path))
	}
	return err
}
