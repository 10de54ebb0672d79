// SPDX-License-Identifier: Apache-2.0

package netnstest

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if code, done := Enter(); done {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

// TestPing sends one datagram from the host namespace to another, and nothing of it is seen outside.
func TestPing(t *testing.T) {
	t.Parallel()
	host, far := Host(t), New(t)
	Veth(t, host, "ping0", far, "eth0")
	for _, family := range []struct{ name, host, far string }{
		{"IPv4", "192.0.2.1/24", "192.0.2.2/24"},
		{"IPv6", "2001:db8::1/64", "2001:db8::2/64"},
	} {
		host.AddAddr(t, "ping0", netip.MustParsePrefix(family.host))
		address := netip.MustParsePrefix(family.far)
		far.AddAddr(t, "eth0", address)

		var server net.PacketConn
		far.Do(t, func() (err error) {
			server, err = net.ListenPacket("udp", netip.AddrPortFrom(address.Addr(), 7).String())
			return err
		})
		defer server.Close()
		client, err := net.Dial("udp", server.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.Write([]byte(family.name)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10)
		n, _, err := server.ReadFrom(b)
		if err != nil || string(b[:n]) != family.name {
			t.Errorf("received %q, %v", b[:n], err)
		}
		Eventually(t, func() error {
			if host.Neighbor(t, "ping0", address.Addr()) == nil {
				return errors.New("the far end is no neighbour")
			}
			return nil
		})
	}
}

// TestOutsideUntouched: the test runs elsewhere than the process that started it.
func TestOutsideUntouched(t *testing.T) {
	t.Parallel()
	Host(t)
	inside, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if outside := os.Getenv(envOutside); outside == inside {
		t.Errorf("still in %s", outside)
	}
}

// TestWithoutRoot runs TestPing as nobody, who has nothing but what the kernel gives to everybody.
func TestWithoutRoot(t *testing.T) {
	t.Parallel()
	Host(t)
	if os.Getuid() != 0 || os.Getenv("HERALD_NETNSTEST_NOBODY") != "" {
		t.Skip("SKIPPED: runs from root only")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestPing$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"HERALD_NETNSTEST_NOBODY=1", "CI=true"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

// TestImpossible: without a namespace a test is skipped with the reason, and fails on CI.
func TestImpossible(t *testing.T) {
	t.Parallel()
	Host(t)
	for _, ci := range []string{"", "true"} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestPing$", "-test.v")
		cmd.Env = []string{envOutside + "=elsewhere", envReason + "=no can do", "CI=" + ci}
		out, err := cmd.CombinedOutput()
		if failed := err != nil; failed != (ci == "true") {
			t.Errorf("CI=%q: %v\n%s", ci, err, out)
		}
		if !bytes.Contains(out, []byte("no can do")) {
			t.Errorf("CI=%q: the reason is not in the output:\n%s", ci, out)
		}
	}
}
