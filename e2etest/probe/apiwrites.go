// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	sampleLine = regexp.MustCompile(`^apiserver_request_total\{(.*)\} (\S+)$`)
	labelPair  = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// Writes reads the API server's metrics, and returns how many requests have changed objects so far, by "VERB
// group/resource/subresource". It leaves out what the cluster itself keeps writing (heartbeats, the state of nodes and Pods,
// tokens, endpoints), so what is left in a settled cluster comes from the load balancer, whichever user it runs as.
func Writes(metrics io.Reader) (map[string]float64, error) {
	out := map[string]float64{}
	sc := bufio.NewScanner(metrics)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		m := sampleLine.FindStringSubmatch(sc.Text())
		if m == nil {
			continue
		}
		labels := map[string]string{}
		for _, p := range labelPair.FindAllStringSubmatch(m[1], -1) {
			labels[p[1]] = p[2]
		}
		switch labels["verb"] {
		case "GET", "LIST", "WATCH", "CONNECT":
			continue
		}
		what := labels["resource"]
		if g := labels["group"]; g != "" {
			what = g + "/" + what
		}
		if sub := labels["subresource"]; sub != "" {
			what += "/" + sub
		}
		if ofTheCluster(what) {
			continue
		}
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, fmt.Errorf("apiserver_request_total of %s: %w", what, err)
		}
		out[labels["verb"]+" "+what] += n
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return out, nil
}

func ofTheCluster(what string) bool {
	for _, prefix := range []string{
		"coordination.k8s.io/", "flowcontrol.apiserver.k8s.io/", "apiregistration.k8s.io/", "apiextensions.k8s.io/",
		"authentication.k8s.io/", "authorization.k8s.io/", "discovery.k8s.io/", "networking.k8s.io/",
		"nodes", "pods", "endpoints", "serviceaccounts",
	} {
		if strings.HasPrefix(what, prefix) {
			return true
		}
	}
	return false
}

// NewWrites returns what was added between two counts, in words, and how many that are.
func NewWrites(before, after map[string]float64) (total float64, what []string) {
	for _, k := range slices.Sorted(maps.Keys(after)) {
		if d := after[k] - before[k]; d > 0 {
			total += d
			what = append(what, fmt.Sprintf("%g x %s", d, k))
		}
	}
	return total, what
}
