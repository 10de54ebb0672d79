// SPDX-License-Identifier: Apache-2.0

// Package lab runs a real Kubernetes cluster without containers, in network namespaces of one Linux machine, as root.
//
//	supervisor: PID 1 of its own PID, mount and network namespaces
//
//	            ---------------- bridge "lan" -----------------
//	            |            |             |          |
//	           cp           node1         node2      client1    ... router1
//	           etcd         agent         (same)
//	           apiserver    kube-proxy
//	           kcm, sched   Pods
//
// Everything lives below the supervisor. When it ends, in whatever way, the kernel ends all of it: no process, no
// interface, no mount and no address of a lab can be left behind, and two labs may use the same addresses side by side.
// Only the state directory (logs, control socket) is visible outside; the next lab removes it if its supervisor is gone.
//
//	l, err := lab.Up(ctx, lab.Options{Progress: os.Stderr})
//	if err != nil { ... }
//	defer l.Down(ctx)
//	out, _, err := l.Kubectl(ctx, nil, "get", "nodes")
//	err = l.Cut(ctx, "node1")
//	out, err = l.Exec(ctx, "client1", "curl", "-s", "http://192.168.2.128/")
package lab
