// SPDX-License-Identifier: Apache-2.0

package speaker

import "time"

// part takes the cable out: requests and events wait until it is back.
func (c *fakeClient) part() {
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	c.apart, c.late = make(chan struct{}), make(chan struct{})
}

// rejoin puts it back. Each watch takes its own time until it goes on: that of
// endpoints takes this long.
func (c *fakeClient) rejoin(late time.Duration) {
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	close(c.apart)
	c.apart = nil
	gate := c.late
	time.AfterFunc(late, func() {
		c.api.mu.Lock()
		defer c.api.mu.Unlock()
		close(gate)
		if c.late == gate { // else it is apart again
			c.late = nil
		}
	})
}

// pass waits until the way to the server is open, for a request, or for the
// watch of a resource.
func (c *fakeClient) pass(done <-chan struct{}, watched string) {
	for {
		c.api.mu.Lock()
		gate := c.apart
		if watched == "endpointslices" {
			gate = c.late
		}
		c.api.mu.Unlock()
		if gate == nil {
			return
		}
		select {
		case <-gate:
		case <-done:
			return
		case <-c.dead:
			return
		}
	}
}
