// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

const (
	root  = "../.."
	chart = root + "/charts/herald"
)

// program returns the path of a built program. Without it the test is skipped, except in continuous integration.
func program(t *testing.T, name, target string) string {
	t.Helper()
	p, err := filepath.Abs(filepath.Join(root, "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: make %s builds it", p, target)
		}
		t.Skipf("SKIPPED: %s is missing: make %s builds it", p, target)
	}
	return p
}

// command runs a program and returns what it printed, also when it failed.
func command(t *testing.T, path string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	// Nothing of the user's own Helm and kubectl configuration.
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home, "XDG_DATA_HOME="+home, "KUBECONFIG=/dev/null")
	err = cmd.Run()
	return out.String(), msg.String(), err
}

// objects are what a rendering contains.
type objects []runtime.Object

// render runs helm template for release "rel" in namespace "ns".
func render(t *testing.T, args ...string) objects {
	t.Helper()
	return renderAs(t, "rel", "ns", args...)
}

func renderAs(t *testing.T, release, namespace string, args ...string) objects {
	t.Helper()
	args = append([]string{"template", release, chart, "--namespace", namespace}, args...)
	out, msg, err := command(t, program(t, "helm", "bin/helm"), args...)
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, msg)
	}
	objs, err := decode(out)
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

// decode reads objects strictly: a field that their types do not have is an error. Kinds that client-go does not know
// (custom resources) are taken as they are.
func decode(text string) (objects, error) {
	codecs := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict)
	var objs objects
	for _, doc := range strings.Split("\n"+text, "\n---") {
		if blank(doc) {
			continue
		}
		obj, _, err := codecs.UniversalDeserializer().Decode([]byte(doc), nil, nil)
		if runtime.IsNotRegisteredError(err) {
			u := &unstructured.Unstructured{}
			err = yaml.UnmarshalStrict([]byte(doc), &u.Object)
			obj = u
		}
		if err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, doc)
		}
		objs = append(objs, obj)
	}
	if len(objs) == 0 {
		return nil, errors.New("nothing was rendered")
	}
	return objs, nil
}

// blank reports whether a YAML document has only comments.
func blank(doc string) bool {
	for line := range strings.Lines(doc) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

// find returns the objects of type T.
func find[T runtime.Object](objs objects) []T {
	var found []T
	for _, o := range objs {
		if typed, ok := o.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

// one returns the only object of type T.
func one[T runtime.Object](t *testing.T, objs objects) T {
	t.Helper()
	found := find[T](objs)
	if len(found) != 1 {
		t.Fatalf("want one %T, got %d", *new(T), len(found))
	}
	return found[0]
}

// pods returns the Pod specs of the controller and of the speaker.
func pods(t *testing.T, objs objects) (controller, speaker corev1.PodSpec) {
	t.Helper()
	return one[*appsv1.Deployment](t, objs).Spec.Template.Spec, one[*appsv1.DaemonSet](t, objs).Spec.Template.Spec
}
