// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"io"
	"net/http"
)

// Check is one condition of readiness.
type Check struct {
	Name string
	// Ready returns why not. It is called for every request, from other
	// goroutines.
	Ready func() error
}

// Health returns the handler of the health port. /healthz answers as long as
// the program runs. /readyz answers 500 until all checks pass, and says in its
// body which do not, and why: nothing secret may be in their errors.
func Health(checks ...Check) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		var missing string
		for _, c := range checks {
			if err := c.Ready(); err != nil {
				missing += fmt.Sprintf("%s: %v\n", c.Name, err)
			}
		}
		if missing != "" {
			http.Error(w, missing, http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "ok")
	})
	return mux
}
