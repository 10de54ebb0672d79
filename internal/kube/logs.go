// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// RouteLogs sends what the Kubernetes libraries log to l, from level info up:
// their debugging drowns Herald's own. They keep their loggers in global
// variables, so this is called once, by main.
func RouteLogs(l *slog.Logger) {
	l = slog.New(atLeastInfo{l.Handler()}).With("component", "client-go")
	klog.SetSlogLogger(l)
	ctrllog.SetLogger(logr.FromSlogHandler(l.Handler()))
}

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
