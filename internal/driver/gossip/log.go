// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"log" //nolint:depguard // memberlist wants one of its loggers
	"log/slog"
	"strings"

	"golang.org/x/time/rate"
)

// newLogger gives memberlist a log.Logger whose lines end up in l.
func newLogger(l *slog.Logger) *log.Logger {
	return log.New(&logWriter{log: l, limit: rate.NewLimiter(1, 20)}, "", 0)
}

// logWriter turns memberlist's lines, such as
//
//	[WARN] memberlist: Refuting a suspect message (from: n2)
//
// into records. A stranger with a wrong key could make it write a line per
// packet, so their number is limited.
type logWriter struct {
	log   *slog.Logger
	limit *rate.Limiter
}

// Write implements io.Writer; log.Logger calls it once per line and never twice
// at a time.
func (w *logWriter) Write(p []byte) (int, error) {
	level, text := parseLine(string(p))
	switch {
	case level == slog.LevelDebug:
		w.log.Debug("memberlist", "says", text)
	case !w.limit.Allow():
	case level == slog.LevelWarn:
		w.log.Warn("memberlist", "says", text)
	default:
		w.log.Info("memberlist", "says", text)
	}
	return len(p), nil
}

// parseLine finds the level. What memberlist calls an error is a failure to
// reach or understand somebody: a warning for this program.
func parseLine(line string) (slog.Level, string) {
	line = strings.TrimSpace(line)
	level := slog.LevelInfo
	if rest, ok := strings.CutPrefix(line, "["); ok {
		name, text, found := strings.Cut(rest, "] ")
		if found {
			line = text
			switch name {
			case "ERR", "WARN":
				level = slog.LevelWarn
			case "DEBUG":
				level = slog.LevelDebug
			}
		}
	}
	return level, strings.TrimPrefix(line, "memberlist: ")
}
