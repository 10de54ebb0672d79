// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heraldlb/herald/e2etest/probe"
)

var errNotYet = errors.New("not yet")

func orNotYet(err error) error {
	if err == nil {
		return errNotYet
	}
	return err
}

func answered(ctx context.Context, s *probe.Session) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return s.WaitAnswers(ctx, 50)
}

// wait polls until try succeeds.
func wait(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	return waitEvery(ctx, 200*time.Millisecond, limit, try)
}

func waitEvery(ctx context.Context, pause, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if sleep(ctx, pause) != nil {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
