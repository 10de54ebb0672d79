// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"
)

// askPatience is how long an answer on an established connection may take: longer than a client's first retransmissions.
const askPatience = 3 * time.Second

// Held are established connections to one address: idle, or busy with a request every so often.
type Held struct {
	conns  []*heldConn
	cancel context.CancelFunc
	busy   sync.WaitGroup
}

// Health says how many of them still work. Lost are those that somebody has reset or closed, silent those on which no answer came.
type Health struct{ Alive, Lost, Silent int }

// heldConn is one of them.
type heldConn struct {
	conn   net.Conn
	reader *bufio.Reader

	mu  sync.Mutex // guards the use of the connection, and err
	err error      // why it is over
}

// Hold opens n connections and asks once on each. With every they are asked again and again, else they stay idle. do runs a function
// on a thread of the network namespace to be in.
func Hold(ctx context.Context, target netip.AddrPort, n int, every time.Duration, do func(func() error) error) (*Held, error) {
	ctx, cancel := context.WithCancel(ctx)
	h := &Held{cancel: cancel}
	err := do(func() error {
		for range n {
			// No keep-alive: an idle connection is one on which nothing is sent.
			d := net.Dialer{Timeout: askPatience, KeepAlive: -1}
			conn, err := d.DialContext(ctx, "tcp", target.String())
			if err != nil {
				return fmt.Errorf("hold connections: %w", err)
			}
			h.conns = append(h.conns, &heldConn{conn: conn, reader: bufio.NewReader(conn)})
		}
		return nil
	})
	if err == nil {
		if got := h.Ask(); got.Alive != n {
			err = fmt.Errorf("hold connections: of %d only %d work from the beginning", n, got.Alive)
		}
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	for _, c := range h.conns {
		if every > 0 {
			h.busy.Go(func() { c.keepBusy(ctx, every) })
		}
	}
	return h, nil
}

func (c *heldConn) keepBusy(ctx context.Context, every time.Duration) {
	beat := time.NewTicker(every)
	defer beat.Stop()
	for c.ask() == nil {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
	}
}

// Ask makes a request on each of the connections that have not failed yet, and says how all of them are.
func (h *Held) Ask() Health {
	errs := make([]error, len(h.conns))
	var asking sync.WaitGroup
	for i, c := range h.conns {
		asking.Go(func() { errs[i] = c.ask() })
	}
	asking.Wait()
	var out Health
	for _, err := range errs {
		switch {
		case err == nil:
			out.Alive++
		case errors.Is(err, os.ErrDeadlineExceeded):
			out.Silent++
		default:
			out.Lost++
		}
	}
	return out
}

// ask makes one request and reads the answer. What has failed once stays so: a client would have given it up.
func (c *heldConn) ask() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = c.exchange()
	}
	return c.err
}

func (c *heldConn) exchange() error {
	if err := c.conn.SetDeadline(time.Now().Add(askPatience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, "GET / HTTP/1.1\r\nHost: held\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return errors.Join(err, answer.Body.Close())
}

// Close ends them.
func (h *Held) Close() {
	h.cancel()
	for _, c := range h.conns {
		_ = c.conn.Close()
	}
	h.busy.Wait()
}
