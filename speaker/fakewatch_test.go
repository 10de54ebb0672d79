// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// watch streams what happens to the objects of a query: with the list first,
// if that is asked for. A watch of a speaker may lag behind and may end.
func (c *fakeClient) watch(r *http.Request, q query) *http.Response {
	reader, writer := io.Pipe()
	go func() {
		w := fakeWatch{client: c, q: q, out: json.NewEncoder(writer), done: r.Context().Done(), held: map[string]bool{}}
		err := w.run(r)
		_ = writer.CloseWithError(err)
	}()
	go func() { // a pipe does not know of the context
		<-r.Context().Done()
		_ = writer.CloseWithError(r.Context().Err())
	}()
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: reader, ContentLength: -1, Request: r,
	}
}

type fakeWatch struct {
	client *fakeClient
	q      query
	out    *json.Encoder
	done   <-chan struct{}
	held   map[string]bool // what the watcher has
}

// run works until the watch is over: nil for an ordinary end.
func (w *fakeWatch) run(r *http.Request) error {
	a := w.client.api
	at, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		a.mu.Lock()
		items, version := a.selected(w.q)
		a.mu.Unlock()
		for _, obj := range items {
			if err := w.send("ADDED", obj); err != nil {
				return err
			}
		}
		at = version
		if err := w.send("BOOKMARK", fakeObject{
			"kind": fakeKinds[w.q.resource][0], "apiVersion": fakeKinds[w.q.resource][1],
			"metadata": fakeObject{"resourceVersion": strconv.Itoa(version), "annotations": fakeObject{"k8s.io/initial-events-end": "true"}},
		}); err != nil {
			return err
		}
	} else if at == 0 {
		return w.send("ERROR", failure(http.StatusGone, "Expired"))
	}
	for {
		a.mu.Lock()
		i, _ := slices.BinarySearchFunc(a.log, at+1, func(c fakeChange, v int) int { return c.version - v })
		news, changed := slices.Clone(a.log[i:]), a.changed
		lag, end := time.Duration(0), false
		if a.faults {
			lag = time.Duration(a.rand.Int64N(int64(time.Second)))
			if a.rand.IntN(4) > 0 {
				lag /= 100
			}
			end = a.rand.IntN(200) == 0
		}
		a.mu.Unlock()
		if len(news) == 0 {
			select {
			case <-w.done:
				return nil
			case <-changed:
			}
			continue
		}
		w.client.pass(w.done, w.q.resource)
		time.Sleep(lag)
		if end || w.client.isDead() {
			return nil
		}
		for _, c := range news {
			at = c.version
			if w.q.selects(c.resource, c.object) {
				if err := w.send(c.kind, c.object); err != nil {
					return err
				}
			}
		}
	}
}

func (w *fakeWatch) send(kind string, obj fakeObject) error {
	return w.out.Encode(fakeObject{"type": kind, "object": obj})
}

// kinds of what a speaker watches.
var fakeKinds = map[string][2]string{
	"services": {"Service", "v1"}, "nodes": {"Node", "v1"}, "namespaces": {"Namespace", "v1"}, "pods": {"Pod", "v1"},
	"endpointslices":            {"EndpointSlice", "discovery.k8s.io/v1"},
	"ipaddresspools":            {"IPAddressPool", "metallb.io/v1beta1"},
	"l2advertisements":          {"L2Advertisement", "metallb.io/v1beta1"},
	"bgpadvertisements":         {"BGPAdvertisement", "metallb.io/v1beta1"},
	"bgppeers":                  {"BGPPeer", "metallb.io/v1beta2"},
	"bfdprofiles":               {"BFDProfile", "metallb.io/v1beta1"},
	"communities":               {"Community", "metallb.io/v1beta1"},
	"servicel2statuses":         {"ServiceL2Status", "metallb.io/v1beta1"},
	"servicebgpstatuses":        {"ServiceBGPStatus", "metallb.io/v1beta1"},
	"configurationstates":       {"ConfigurationState", "metallb.io/v1beta1"},
	"customresourcedefinitions": {"PartialObjectMetadata", "meta.k8s.io/v1"},
	"bgpsessions":               {"BGPSession", "heraldlb.io/v1alpha1"},
}

// misfortune is what happens to a request on one half of its way.
type misfortune struct {
	delay  time.Duration
	refuse bool
}

// misfortune draws lots for both halves of the way of a request.
func (a *fakeAPI) misfortune(method string) (before, after misfortune) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.faults || method == http.MethodGet {
		return misfortune{}, misfortune{}
	}
	draw := func() misfortune {
		switch a.rand.IntN(20) {
		case 0:
			return misfortune{refuse: true}
		case 1:
			return misfortune{delay: time.Minute} // the client gives up
		case 2, 3, 4, 5:
			return misfortune{delay: time.Duration(a.rand.Int64N(int64(3 * time.Second)))}
		}
		return misfortune{delay: time.Duration(a.rand.Int64N(int64(20 * time.Millisecond)))}
	}
	return draw(), draw()
}

func (a *fakeAPI) isStuck(node, method string, q query) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stuck != nil && a.stuck(node, method, q.resource, q.name)
}

func (f misfortune) happen(ctx context.Context, dead <-chan struct{}) error {
	select {
	case <-dead:
		return errFakeGone
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(f.delay):
		return nil
	}
}
