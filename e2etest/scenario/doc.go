// SPDX-License-Identifier: Apache-2.0

// Package scenario runs the scenarios: text files that start a lab, do something to it, and say what must be seen.
// An operator should be able to read them like a runbook.
//
//	# The owner's cable is cut.
//	lab nodes=3
//	apply quickstart.yaml
//	owner my-lb
//	measure 192.168.2.128:80
//	node cut $owner
//	answered
//	gap -max 10s
//
// A line is a command with its arguments; a line that begins with # is prose and a phase. The language is that of
// testscript (github.com/rogpeppe/go-internal/testscript), with the commands that `go test ./scenario -run TestCommands -v -commands` prints.
//
// Behind every scenario a checker listens on the LAN for two owners of one address, and the LAN is captured. When a
// scenario fails, the captures, all logs, the last plans and all objects are kept, and their place is printed
// with the command that runs the scenario again.
package scenario
