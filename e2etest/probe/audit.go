// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Request is one request that an API server's audit log tells of.
type Request struct {
	At         time.Time // when the API server received it
	User, Verb string
	URI        string
}

// String tells it in words.
func (r Request) String() string { return fmt.Sprintf("%s %s by %s", r.Verb, r.URI, r.User) }

// Requests reads an audit log and returns what was received from begin up to end, but renewals of Leases, which go on all the time.
func Requests(log io.Reader, begin, end time.Time) ([]Request, error) {
	var out []Request
	seen := map[string]bool{} // a watch is told of when it begins and when it ends
	for r := bufio.NewReader(log); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out, nil // what follows the last line's end is still being written
		}
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		var ev struct {
			AuditID                  string
			RequestURI, Verb         string
			User                     struct{ Username string }
			RequestReceivedTimestamp time.Time
		}
		if err := json.Unmarshal(line, &ev); err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		at := ev.RequestReceivedTimestamp
		if at.Before(begin) || at.After(end) || seen[ev.AuditID] || strings.HasPrefix(ev.RequestURI, "/apis/coordination.k8s.io/") {
			continue
		}
		seen[ev.AuditID] = true
		out = append(out, Request{at, ev.User.Username, ev.Verb, ev.RequestURI})
	}
}
