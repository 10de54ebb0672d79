// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// shutdownTimeout is how long tasks that talk to the API server get to end:
// long enough for requests under way, and within the grace period of the Pod.
const shutdownTimeout = 8 * time.Second

// task works until its context ends. When it returns an error, the program ends.
type task func(context.Context) error

// runTasks runs the tasks until ctx ends or one of them fails. It does not wait
// longer than shutdownTimeout for those that do not end.
func runTasks(ctx context.Context, tasks ...task) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		g.Go(func() error { return t(ctx) })
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(shutdownTimeout)
	defer late.Stop()
	select {
	case err := <-ended:
		return err
	case <-late.C:
		return fmt.Errorf("tasks still ran %v after the end: %w", shutdownTimeout, context.Cause(ctx))
	}
}
