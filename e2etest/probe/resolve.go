// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/e2etest/wire"
)

// answerTimeout is how long Resolve waits for one answer.
const answerTimeout = time.Second

// Resolve asks for one address after the other, and returns how long each answer took. Asking for different machines in
// turn lets whatever disturbs this one disturb them alike. It must be called on a thread of the network namespace to
// ask from; from is the address to ask from.
func Resolve(ifname string, from netip.Addr, targets []netip.Addr, pause time.Duration) ([]time.Duration, error) {
	sock, err := wire.Open(ifname, false)
	if err != nil {
		return nil, err
	}
	defer func() {
		sock.Close()
		_, _, _ = sock.Read(nil)
	}()
	took := make([]time.Duration, 0, len(targets))
	buf := make([]byte, 256)
	for _, t := range targets {
		d, err := ask(sock, wire.Request(sock.MAC(), from, t), t, buf)
		if err != nil {
			return nil, err
		}
		took = append(took, d)
		time.Sleep(pause)
	}
	return took, nil
}

func ask(sock *wire.Socket, frame []byte, target netip.Addr, buf []byte) (time.Duration, error) {
	start := time.Now()
	if err := sock.Write(frame); err != nil {
		return 0, err
	}
	for time.Since(start) < answerTimeout {
		n, at, err := sock.Read(buf)
		if errors.Is(err, wire.ErrTimeout) {
			continue
		}
		if err != nil {
			return 0, err
		}
		// An announcement is no answer to this question.
		if a, ok := wire.Decode(buf[:n]); ok && a.Addr == target && !a.Announcement {
			return at.Sub(start), nil
		}
	}
	return 0, fmt.Errorf("nobody answered for %s within %v", target, answerTimeout)
}
