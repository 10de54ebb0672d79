// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func untilEnd(ctx context.Context) error { <-ctx.Done(); return nil }

func TestTasksEndWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		written := false
		started := time.Now()
		err := runTasks(ctx, untilEnd, func(context.Context) error { return nil }, func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(shutdownTimeout / 2) // a request under way
			written = true
			return nil
		})
		if err != nil || !written || time.Since(started) != time.Hour+shutdownTimeout/2 {
			t.Errorf("error %v, last request completed: %v, after %v; a task that is done must not end the others, and those under way are waited for",
				err, written, time.Since(started))
		}
	})
}

func TestTasksEndTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("port in use")
		if err := runTasks(t.Context(), untilEnd, func(context.Context) error { return failed }); !errors.Is(err, failed) {
			t.Errorf("error %v, want %v", err, failed)
		}
	})
}

func TestTasksAreNotWaitedForForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		release := make(chan struct{})
		defer close(release)
		started := time.Now()
		err := runTasks(ctx, func(context.Context) error { <-release; return nil })
		if err == nil || time.Since(started) != shutdownTimeout {
			t.Errorf("error %v after %v, want one after %v", err, time.Since(started), shutdownTimeout)
		}
	})
}
