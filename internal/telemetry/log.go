// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Keys of log attributes: the whole list, so that a search for one key finds
// every line about that thing, in both programs.
const (
	KeyComponent = "component" // part of the program
	KeyService   = "service"   // namespace/name
	KeyNode      = "node"
	KeyPool      = "pool"
	KeyAddress   = "ip"
	KeyPrefix    = "prefix"
	KeyInterface = "interface"
	KeyMAC       = "mac"
	KeyPeer      = "peer"
	KeyKind      = "kind"   // of a Kubernetes object
	KeyObject    = "object" // namespace/name of it
	KeyReason    = "reason" // a code of docs/reasons.md
	KeyError     = "error"
	KeyCount     = "count"
	KeyDuration  = "duration"
	KeyVersion   = "version"
)

// levelNone is above every level in use.
const levelNone = slog.Level(100)

// ParseLevel reads the value of --log-level. The names are MetalLB's: all,
// debug, info, warn, error, none.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "all", "debug":
		return slog.LevelDebug, nil
	case "info", "":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	case "none":
		return levelNone, nil
	}
	return 0, fmt.Errorf("log level %q is not one of all, debug, info, warn, error, none", s)
}

// NewLogger returns a logger that writes one JSON object per line.
func NewLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}
