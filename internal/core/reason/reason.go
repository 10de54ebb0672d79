// SPDX-License-Identifier: Apache-2.0

// Package reason is the closed list of answers to "why?".
//
// Every planner decision carries one Reason. Its Code is the reason of a
// Kubernetes condition, stable enough to alert on; its Text is the sentence
// a person reads, with the names, values and the fix in it. docs/reasons.md
// is generated from the list in list.go.
package reason

import (
	"fmt"
	"slices"
)

// Code names a reason. It is CamelCase, as Kubernetes wants of a condition.
type Code string

// Reason is one decision in words.
type Reason struct {
	Code Code
	Text string
}

// New returns a Reason with a formatted text. It panics when code is not on
// the list: the list is closed.
func New(code Code, format string, args ...any) Reason {
	if _, ok := Lookup(code); !ok {
		panic("reason: code not on the list: " + string(code))
	}
	return Reason{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Good reports whether the reason states that all is well.
func (r Reason) Good() bool {
	info, ok := Lookup(r.Code)
	return ok && info.Good
}

// String returns "Code: text".
func (r Reason) String() string {
	if r.Text == "" {
		return string(r.Code)
	}
	return string(r.Code) + ": " + r.Text
}

// Subject says what a reason is about.
type Subject string

// The subjects, which are also the conditions and reports that show them.
const (
	Allocated Subject = "Service condition heraldlb.io/Allocated"
	Announced Subject = "Service condition heraldlb.io/Announced"
	Node      Subject = "one node's part in announcing a Service"
	Object    Subject = "condition Valid of a configuration object"
)

// Info documents one code.
type Info struct {
	Code    Code
	Subject Subject
	Good    bool   // the reason of a True condition
	Meaning string // one sentence
	Fix     string // what the user does about it; empty when nothing is to do
}

// infos and byCode are written once, here, and only read afterwards: a plan
// looks up a code for every Service.
var (
	infos  = list()
	byCode = index(infos)
)

func index(infos []Info) map[Code]Info {
	m := make(map[Code]Info, len(infos))
	for _, i := range infos {
		m[i.Code] = i
	}
	return m
}

// All returns the list in the order of the documentation.
func All() []Info { return slices.Clone(infos) }

// Lookup finds a code on the list.
func Lookup(code Code) (Info, bool) {
	i, ok := byCode[code]
	return i, ok
}
