// SPDX-License-Identifier: Apache-2.0

// Package api tests the CustomResourceDefinitions of config/crd against the real kube-apiserver: which objects it takes
// and refuses, what it fills in, how versions of one kind relate, what kubectl get prints.
//
// The objects are in testdata, one txtar file per kind. The comment at the top of a file is the YAML that all its objects
// share; every section is one object and what must happen to it:
//
//	-- the name of the case --
//	want: rejected           # or accepted
//	says: [part of the message, another part]
//	stored: {spec: {...}}    # what the accepted object must contain when read back
//	from: {spec: {...}}      # the object is first created with this, then updated
//	spec: {...}              # the object
package api
