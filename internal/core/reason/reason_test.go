// SPDX-License-Identifier: Apache-2.0

package reason_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/heraldlb/herald/internal/core/reason"
)

// The codes become reasons of Kubernetes conditions, which the API server
// checks against this pattern.
var conditionReason = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)

func TestList(t *testing.T) {
	t.Parallel()
	seen := map[reason.Code]bool{}
	for _, i := range reason.All() {
		if seen[i.Code] {
			t.Errorf("%s is listed twice", i.Code)
		}
		seen[i.Code] = true
		if !conditionReason.MatchString(string(i.Code)) {
			t.Errorf("%s is no valid condition reason", i.Code)
		}
		if !strings.HasSuffix(i.Meaning, ".") {
			t.Errorf("%s: the meaning is not a sentence: %q", i.Code, i.Meaning)
		}
		if i.Good == false && i.Fix == "" && i.Code != reason.NodeNoEndpoint {
			t.Errorf("%s is bad news without a fix", i.Code)
		}
	}
}

func TestNewRefusesUnknownCode(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("New accepted a code that is not on the list")
		}
	}()
	reason.New("MadeUp", "text")
}
