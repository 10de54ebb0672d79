// SPDX-License-Identifier: Apache-2.0

// Package internal_test checks the rules of the house over the whole source tree: who may import whom, what a pure
// package may not do, and what every file and package must have. Each finding says why the rule exists.
//
// The files are opened here, not listed by the go command: go test remembers which files a test has opened and runs it
// again when one of them changes, so a violation is noticed although the result of the test was cached before.
package internal_test

import (
	"os"
	"testing"
)

func TestArchitecture(t *testing.T) {
	t.Parallel()
	files, err := load(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("only %d Go files found: the tree is not read from its top", len(files))
	}
	for _, f := range check(files, houseRules()) {
		t.Error(f)
	}
	for _, w := range oversized(files) {
		t.Log("consider splitting:", w)
	}
}

// houseRules are the rules of this repository.
func houseRules() rules {
	return rules{
		layers:    layers(),
		libraries: libraries(),
		pure:      []string{"internal/core", "internal/kube/snapshot", "internal/kube/status"},
	}
}

// layers say for every directory which directories of this repository its packages may import. The longest match counts.
//
//	cmd -> controller | speaker -> internal/kube, internal/driver/*, internal/telemetry -> internal/core/*
func layers() []layer {
	return []layer{
		{dir: "api", may: []string{"api"},
			why: "the API is what others import: it must not pull in the programs"},
		{dir: "cmd", may: []string{"api", "controller", "speaker", "internal", "cmd/internal"},
			why: "main packages only turn flags into options"},
		{dir: "controller", may: []string{"api", "controller", "internal/core", "internal/kube", "internal/telemetry"},
			why: "the cluster program and the node program share code through internal/ only, and the cluster program has no network of its own"},
		{dir: "speaker", may: []string{"api", "speaker", "internal/core", "internal/kube", "internal/telemetry", "internal/driver"},
			why: "the cluster program and the node program share code through internal/ only"},
		{dir: "internal/core", may: []string{"internal/core"}, stdOnly: true,
			why: "core decides: a decision that needs nothing but its arguments can be tested a million times a second"},
		{dir: "internal/driver", may: []string{"internal/core"}, not: []string{"k8s.io/", "sigs.k8s.io/"},
			why: "a driver does one job with one technology; what combines drivers, or knows of Kubernetes, is the speaker"},
		{dir: "internal/driver/rawl2", may: []string{"internal/core", "internal/driver/rawl2"}, not: []string{"k8s.io/", "sigs.k8s.io/"},
			why: "arpoffload is the part of this driver that runs in the kernel"},
		{dir: "internal/kube", may: []string{"api", "internal/core", "internal/kube", "internal/telemetry"},
			why: "reading and writing objects is one thing, what is done on the network is another"},
		{dir: "internal/kube/snapshot", may: []string{"api", "internal/core", "internal/kube/snapshot"}, not: []string{"k8s.io/client-go/"},
			why: "snapshot is pure: objects in, snapshot out"},
		{dir: "internal/kube/status", may: []string{"api", "internal/core", "internal/kube/snapshot", "internal/kube/status"}, not: []string{"k8s.io/client-go/"},
			why: "status is pure: plan and problems in, wanted statuses out"},
		{dir: "internal/ctl", may: []string{"api", "internal/core", "internal/kube/snapshot", "internal/kube/status", "internal/kube/journal", "internal/ctl"},
			why: "heraldctl tells what the planners say about objects it has read once: it has no caches, writes nothing, and runs nowhere near the programs"},
		{dir: "internal/telemetry", may: []string{"internal/core", "internal/telemetry"},
			why: "metrics and logs are given to constructors; they know none of their users"},
		{dir: "internal/netnstest", why: "helpers of tests need nothing of what is tested"},
		{dir: "internal/routertest", may: []string{"internal/netnstest"}, why: "routers in namespaces know nothing of what is tested against them"},
		{dir: "internal/reasondoc", may: []string{"internal/core"}, why: "it prints the list of reasons"},
		{dir: "internal", why: "this test reads files and imports nothing"},
		{dir: "e2etest", may: []string{"e2etest"},
			why: "the lab sees Herald as a user does: through the API, the network and the programs' output"},
	}
}

// allOfKubernetes is why few may import some libraries. That no other library brings them into the speaker is checked
// there, by TestLinked.
const allOfKubernetes = "it brings all of Kubernetes' API along, code and memory that every node would pay for; " +
	"kube.Client and client-go's caches do without"

// libraries say who may import an outside library. To replace one, or to guard against its bugs, there is then one
// place to look at. Only the product is bound by this, not e2etest.
func libraries() []library {
	return []library{
		{"github.com/osrg/gobgp", []string{"internal/driver/gobgp"},
			"GoBGP is the protocol engine behind one package; it can be crashed by a peer and has to be kept on a leash there"},
		{"github.com/hashicorp/memberlist", []string{"internal/driver/gossip"},
			"its settings decide how fast a dead node is noticed; they live in one place"},
		{"github.com/cilium/ebpf", []string{"internal/driver/rawl2/arpoffload"},
			"what runs in the kernel is in one place, and none of the rest needs to know how it gets there"},
		{"github.com/vishvananda/netlink", []string{"internal/driver/links", "internal/netnstest"},
			"the rest of the program sees links as values, and so can be tested without a kernel"},
		{"github.com/vishvananda/netns", []string{"internal/netnstest"},
			"network namespaces are for tests: the product works in the one it is started in"},
		{"github.com/mdlayher/arp", []string{"internal/driver/rawl2"}, "packets are decided on in core/l2 and sent by rawl2"},
		{"github.com/mdlayher/ethernet", []string{"internal/driver/rawl2"}, "packets are decided on in core/l2 and sent by rawl2"},
		{"github.com/mdlayher/packet", []string{"internal/driver/rawl2", "internal/driver/rawl2/arpoffload"}, "packets are decided on in core/l2 and sent by rawl2"},
		{"github.com/mdlayher/ndp", []string{"internal/driver/rawl2", "internal/driver/bgptransport"},
			"packets are decided on in core/l2 and sent by rawl2; unnumbered BGP sends router advertisements"},
		{"sigs.k8s.io/controller-runtime", []string{"controller"}, allOfKubernetes},
		{"k8s.io/client-go/kubernetes", []string{"controller"}, allOfKubernetes},
		{"k8s.io/client-go/informers", []string{"controller"}, allOfKubernetes},
		{"k8s.io/client-go/tools/leaderelection", []string{"controller"}, allOfKubernetes},
		{"github.com/spf13/cobra", []string{"cmd"}, "only programs have a command line"},
	}
}
