// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// RouteLogs sends what the Kubernetes libraries log to l. They keep their
// loggers in global variables, so this is called once, by main.
func RouteLogs(l *slog.Logger) {
	l = l.With("component", "client-go")
	klog.SetSlogLogger(l)
	ctrllog.SetLogger(logr.FromSlogHandler(l.Handler()))
}
