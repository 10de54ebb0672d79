// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"log/slog"

	"k8s.io/klog/v2"
)

// RouteLogs sends what the Kubernetes libraries log to l, as Quiet makes it.
// They keep their logger in a global variable, so this is called once, by main.
// It returns the logger, for other libraries of that kind.
func RouteLogs(l *slog.Logger) *slog.Logger {
	l = Quiet(l).With("component", "client-go")
	klog.SetSlogLogger(l)
	return l
}

// Quiet returns l for a Kubernetes library, from level info up: their debugging
// drowns Herald's own.
func Quiet(l *slog.Logger) *slog.Logger { return slog.New(atLeastInfo{l.Handler()}) }

// atLeastInfo drops everything below level info.
type atLeastInfo struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h atLeastInfo) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo && h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h atLeastInfo) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeastInfo{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h atLeastInfo) WithGroup(name string) slog.Handler {
	return atLeastInfo{h.Handler.WithGroup(name)}
}
