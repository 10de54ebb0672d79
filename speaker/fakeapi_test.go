// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// fakeAPI is an API server in memory, as far as a speaker uses one: lists and
// watches, creation, patches of the status that fail when the object has
// changed meanwhile, deletion. It can be late and wrong.
type fakeAPI struct {
	mu      sync.Mutex // guards the rest
	version int
	objects map[string]map[string]any // by "resource/namespace/name"
	log     []fakeChange
	changed chan struct{} // closed, and made anew, at each change
	writes  []string      // what speakers wrote
	// faults happen to the requests and watches of speakers.
	faults bool
	rand   *rand.Rand
	// stuck says which requests are never answered; nil: none.
	stuck func(node, method, resource, name string) bool
}

// fakeChange is one event of a watch.
type fakeChange struct {
	version  int
	resource string
	kind     string // ADDED, MODIFIED, DELETED
	object   map[string]any
}

type fakeObject = map[string]any

func newFakeAPI(seed uint64) *fakeAPI {
	return &fakeAPI{
		objects: map[string]fakeObject{}, changed: make(chan struct{}), version: 1, rand: rand.New(rand.NewPCG(seed, 1)),
	}
}

// put makes or replaces an object.
func (a *fakeAPI) put(resource string, obj any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.store(resource, toMap(obj))
}

// edit changes an object.
func (a *fakeAPI) edit(id string, fn func(fakeObject)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	obj := toMap(a.objects[id])
	fn(obj)
	resource, _, _ := strings.Cut(id, "/")
	a.store(resource, obj)
}

// get returns a copy of an object.
func (a *fakeAPI) get(id string, into any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, _ := json.Marshal(a.objects[id])
	if err := json.Unmarshal(b, into); err != nil {
		panic(err)
	}
}

func toMap(obj any) fakeObject {
	b, err := json.Marshal(obj)
	if err != nil {
		panic(err)
	}
	var out fakeObject
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}

func metaOf(obj fakeObject) fakeObject {
	m, _ := obj["metadata"].(fakeObject)
	return m
}

func text(m fakeObject, key string) string {
	s, _ := m[key].(string)
	return s
}

func idIn(resource string, obj fakeObject) string {
	return resource + "/" + text(metaOf(obj), "namespace") + "/" + text(metaOf(obj), "name")
}

// store gives an object a new version and tells the watches. The caller holds mu.
func (a *fakeAPI) store(resource string, obj fakeObject) {
	a.version++
	id, kind := idIn(resource, obj), "ADDED"
	if before, ok := a.objects[id]; ok {
		kind = "MODIFIED"
		metaOf(obj)["uid"] = metaOf(before)["uid"]
	} else {
		metaOf(obj)["uid"] = fmt.Sprintf("uid-%d", a.version)
		if metaOf(obj)["creationTimestamp"] == nil {
			metaOf(obj)["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
		}
	}
	metaOf(obj)["resourceVersion"] = strconv.Itoa(a.version)
	obj["kind"], obj["apiVersion"] = fakeKinds[resource][0], fakeKinds[resource][1]
	a.objects[id] = obj
	a.note(fakeChange{a.version, resource, kind, obj})
}

// drop deletes an object. The caller holds mu.
func (a *fakeAPI) drop(id string) {
	obj, ok := a.objects[id]
	if !ok {
		return
	}
	delete(a.objects, id)
	a.version++
	gone := toMap(obj)
	metaOf(gone)["resourceVersion"] = strconv.Itoa(a.version)
	resource, _, _ := strings.Cut(id, "/")
	a.note(fakeChange{a.version, resource, "DELETED", gone})
}

func (a *fakeAPI) note(c fakeChange) {
	a.log = append(a.log, c)
	close(a.changed)
	a.changed = make(chan struct{})
}

// fakeClient is the connection of one speaker.
type fakeClient struct {
	api  *fakeAPI
	node string
	dead chan struct{} // closed when the speaker has died, with its connections
	// apart is closed when the way to the server is open again; nil: it is.
	// Guarded by api.mu.
	apart chan struct{}
	// late is closed when the watches of endpoints go on, too.
	late chan struct{}
}

func newFakeClient(api *fakeAPI, node string) *fakeClient {
	return &fakeClient{api: api, node: node, dead: make(chan struct{})}
}

func (c *fakeClient) isDead() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

var errFakeGone = errors.New("the connection is broken")

// RoundTrip implements http.RoundTripper.
func (c *fakeClient) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
	}
	c.pass(r.Context().Done(), "")
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if c.isDead() {
		return nil, errFakeGone
	}
	if r.URL.Path == "/version" {
		return respond(r, http.StatusOK, fakeObject{}), nil
	}
	q := fakeQuery(r)
	if q.resource == "events" {
		return respond(r, http.StatusCreated, toMap(json.RawMessage(body))), nil
	}
	if r.Method == http.MethodGet && q.name == "" {
		if r.URL.Query().Get("watch") != "" {
			return c.watch(r, q), nil
		}
		list := c.api.list(q)
		if strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList") {
			list["kind"], list["apiVersion"] = "PartialObjectMetadataList", "meta.k8s.io/v1"
		}
		return respond(r, http.StatusOK, list), nil
	}
	before, after := c.api.misfortune(r.Method)
	if c.api.isStuck(c.node, r.Method, q) {
		before.delay = time.Hour
	}
	if err := before.happen(r.Context(), c.dead); err != nil {
		return nil, err
	}
	if before.refuse {
		return respond(r, http.StatusInternalServerError, failure(http.StatusInternalServerError, "InternalError")), nil
	}
	code, answer := c.api.serve(r.Method, q, body, c.node)
	if err := after.happen(r.Context(), c.dead); err != nil {
		return nil, err
	}
	if after.refuse {
		return nil, errFakeGone
	}
	return respond(r, code, answer), nil
}

// query is what a request is about.
type query struct {
	resource, namespace, name string
	labels                    labels.Selector
	fieldName                 string
}

func fakeQuery(r *http.Request) query {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	n := 2 // api/v1
	if parts[0] == "apis" {
		n = 3
	}
	parts = parts[n:]
	var q query
	if parts[0] == "namespaces" && len(parts) > 2 {
		q.namespace, parts = parts[1], parts[2:]
	}
	q.resource = parts[0]
	if len(parts) > 1 {
		q.name = parts[1]
	}
	q.labels, _ = labels.Parse(r.URL.Query().Get("labelSelector"))
	q.fieldName, _ = strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	if strings.Contains(q.fieldName, "=") {
		q.fieldName = "" // spec.type=LoadBalancer: all Services here are
	}
	return q
}

func (q *query) selects(resource string, obj fakeObject) bool {
	m := metaOf(obj)
	set := labels.Set{}
	if have, ok := m["labels"].(fakeObject); ok {
		for k, v := range have {
			set[k] = v.(string)
		}
	}
	return resource == q.resource && (q.namespace == "" || text(m, "namespace") == q.namespace) &&
		(q.fieldName == "" || text(m, "name") == q.fieldName) && q.labels.Matches(set)
}

func (a *fakeAPI) list(q query) fakeObject {
	a.mu.Lock()
	defer a.mu.Unlock()
	items, version := a.selected(q)
	kind := fakeKinds[q.resource]
	return fakeObject{"kind": kind[0] + "List", "apiVersion": kind[1], "metadata": fakeObject{"resourceVersion": strconv.Itoa(version)}, "items": items}
}

// selected returns the objects of a query, and the version. The caller holds mu.
func (a *fakeAPI) selected(q query) ([]fakeObject, int) {
	items := []fakeObject{}
	for _, id := range slices.Sorted(maps.Keys(a.objects)) {
		resource, _, _ := strings.Cut(id, "/")
		if obj := a.objects[id]; q.selects(resource, obj) {
			items = append(items, obj)
		}
	}
	return items, a.version
}

// serve carries out a request about one object, or deletes many.
func (a *fakeAPI) serve(method string, q query, body []byte, who string) (int, fakeObject) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := q.resource + "/" + q.namespace + "/" + q.name
	obj, exists := a.objects[id]
	if method != http.MethodGet {
		a.writes = append(a.writes, fmt.Sprintf("%s %s %s %s %s", time.Now().Format("15:04:05.000"), who, method, id, body))
	}
	switch {
	case method == http.MethodPost:
		return a.create(q, toMap(json.RawMessage(body)))
	case method == http.MethodDelete && q.name == "":
		items, _ := a.selected(q)
		for _, obj := range items {
			a.drop(idIn(q.resource, obj))
		}
		return http.StatusOK, fakeObject{"kind": "Status", "apiVersion": "v1", "status": "Success"}
	case !exists:
		return http.StatusNotFound, failure(http.StatusNotFound, "NotFound")
	case method == http.MethodGet:
		return http.StatusOK, obj
	case method == http.MethodDelete:
		a.drop(id)
		return http.StatusOK, fakeObject{"kind": "Status", "apiVersion": "v1", "status": "Success"}
	default:
		return a.patch(q.resource, obj, toMap(json.RawMessage(body)))
	}
}

func (a *fakeAPI) create(q query, obj fakeObject) (int, fakeObject) {
	m := metaOf(obj)
	if text(m, "name") == "" {
		m["name"] = fmt.Sprintf("%s%d", text(m, "generateName"), a.version)
	}
	m["namespace"] = q.namespace
	if _, exists := a.objects[idIn(q.resource, obj)]; exists {
		return http.StatusConflict, failure(http.StatusConflict, "AlreadyExists")
	}
	delete(obj, "status")
	a.store(q.resource, obj)
	return http.StatusCreated, obj
}

// patch merges into the status.
func (a *fakeAPI) patch(resource string, obj, patch fakeObject) (int, fakeObject) {
	for _, field := range []string{"resourceVersion", "uid"} {
		if want := text(metaOf(patch), field); want != "" && want != text(metaOf(obj), field) {
			return http.StatusConflict, failure(http.StatusConflict, "Conflict")
		}
	}
	next := toMap(obj)
	status, _ := next["status"].(fakeObject)
	if status == nil {
		status = fakeObject{}
	}
	for k, v := range patch["status"].(fakeObject) {
		if k == "conditions" && resource == "services" {
			v = mergeConditions(status["conditions"], v)
		}
		status[k] = v
	}
	next["status"] = status
	before, _ := json.Marshal(obj)
	if after, _ := json.Marshal(next); bytes.Equal(before, after) {
		return http.StatusOK, obj
	}
	a.store(resource, next)
	return http.StatusOK, next
}

// mergeConditions merges as a strategic patch does: by type.
func mergeConditions(have, patch any) any {
	list, _ := have.([]any)
	out := slices.Clone(list)
	for _, c := range patch.([]any) {
		i := slices.IndexFunc(out, func(o any) bool { return o.(fakeObject)["type"] == c.(fakeObject)["type"] })
		if i < 0 {
			out = append(out, c)
		} else {
			out[i] = c
		}
	}
	return out
}

func failure(code int, reason string) fakeObject {
	return fakeObject{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "for a test: " + reason}
}

func respond(r *http.Request, code int, obj fakeObject) *http.Response {
	b, _ := json.Marshal(obj)
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(b)), ContentLength: int64(len(b)), Request: r,
	}
}
