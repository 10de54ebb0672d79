// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// prompt waits until the operator presses Enter. It talks to the terminal itself, since go test keeps stdin away. The
// scenario's own limit does not run meanwhile; that of go test does, so give it -timeout 0.
func (s *session) prompt(why string) error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("break: there is no terminal to wait at: %w", err)
	}
	defer tty.Close()
	s.timer.Stop()
	defer s.timer.Reset(s.opts.Limit)
	fmt.Fprintf(tty, "\n--- %s stops here: %s (%.0f s after its start)\n", s.name, why, time.Since(s.begun).Seconds())
	for _, key := range slices.Sorted(maps.Keys(s.labs)) {
		cmd := filepath.Join(s.opts.Root, "bin", "lab") + " --name " + s.labs[key].lab.Name()
		fmt.Fprintf(tty, "lab %s:\n  %s shell [PLACE]\n  %s kubectl get services -A\n  %s status\n", key, cmd, cmd, cmd)
	}
	fmt.Fprintf(tty, "captures: %s\nEnter goes on. ", s.dir)
	if _, err := bufio.NewReader(tty).ReadString('\n'); err != nil {
		return fmt.Errorf("break: %w", err)
	}
	return nil
}
