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

// prompt waits until the operator presses Enter. It talks to the terminal itself, since go test keeps stdin away.
func (s *session) prompt(why string) error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("break: there is no terminal to wait at: %w", err)
	}
	defer tty.Close()
	fmt.Fprintf(tty, "\n--- %s stops here: %s (%.0f s after its start)\n", s.name, why, time.Since(s.begun).Seconds())
	tool := filepath.Join(s.opts.Root, "bin", "lab")
	for _, key := range slices.Sorted(maps.Keys(s.labs)) {
		name := s.labs[key].lab.Name()
		fmt.Fprintf(tty, "lab %s:\n  %s shell --name %s [WHERE]\n  %s kubectl --name %s -- get services -A\n  %s status --name %s\n",
			key, tool, name, tool, name, tool, name)
	}
	fmt.Fprintf(tty, "captures: %s\nEnter goes on. ", s.dir)
	if _, err := bufio.NewReader(tty).ReadString('\n'); err != nil {
		return fmt.Errorf("break: %w", err)
	}
	return nil
}
