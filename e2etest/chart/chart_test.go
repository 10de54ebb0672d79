// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// A release may have any name and live in any namespace.
func TestRendersInAnyNamespace(t *testing.T) {
	t.Parallel()
	clusterWide := []string{"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
	for _, namespace := range []string{"metallb-system", "default", "lb"} {
		t.Run(namespace, func(t *testing.T) {
			t.Parallel()
			for _, o := range renderAs(t, "rel", namespace) {
				m, err := meta.Accessor(o)
				if err != nil {
					t.Fatal(err)
				}
				kind := o.GetObjectKind().GroupVersionKind().Kind
				want := namespace
				if slices.Contains(clusterWide, kind) {
					want = ""
				}
				if m.GetNamespace() != want {
					t.Errorf("%s %s: want namespace %q, got %q", kind, m.GetName(), want, m.GetNamespace())
				}
				if b, ok := o.(*rbacv1.ClusterRoleBinding); ok && b.Subjects[0].Namespace != namespace {
					t.Errorf("%s binds a subject in namespace %q", b.Name, b.Subjects[0].Namespace)
				}
				if b, ok := o.(*rbacv1.RoleBinding); ok && b.Subjects[0].Namespace != namespace {
					t.Errorf("%s binds a subject in namespace %q", b.Name, b.Subjects[0].Namespace)
				}
			}
		})
	}
}

// The controller survives the loss of a node and of a drain, and has no privilege at all.
func TestController(t *testing.T) {
	t.Parallel()
	objs := render(t)
	d := one[*appsv1.Deployment](t, objs)
	if *d.Spec.Replicas != 2 {
		t.Errorf("replicas: want 2, got %d", *d.Spec.Replicas)
	}
	pdb := one[*policyv1.PodDisruptionBudget](t, objs)
	if pdb.Spec.MaxUnavailable.IntValue() != 1 || pdb.Spec.MinAvailable != nil {
		t.Errorf("disruption budget: want maxUnavailable 1, got %+v", pdb.Spec)
	}
	if !labels.SelectorFromSet(pdb.Spec.Selector.MatchLabels).Matches(labels.Set(d.Spec.Template.Labels)) {
		t.Errorf("disruption budget selects %v, the Pods have %v", pdb.Spec.Selector.MatchLabels, d.Spec.Template.Labels)
	}
	pod := d.Spec.Template.Spec
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Error("the controller shares a namespace with the host")
	}
	wantPod := &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if diff := cmp.Diff(wantPod, pod.SecurityContext); diff != "" {
		t.Errorf("Pod security context (-want +got):\n%s", diff)
	}
	want := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	if diff := cmp.Diff(want, pod.Containers[0].SecurityContext); diff != "" {
		t.Errorf("container security context (-want +got):\n%s", diff)
	}
}

// The speaker uses the host's network with NET_RAW and nothing else, on every node.
func TestSpeaker(t *testing.T) {
	t.Parallel()
	_, pod := pods(t, render(t))
	if !pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Errorf("want the host's network only, got network %t, PID %t, IPC %t", pod.HostNetwork, pod.HostPID, pod.HostIPC)
	}
	want := &corev1.SecurityContext{
		RunAsUser: new(int64(0)), RunAsGroup: new(int64(0)), AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_RAW"}},
	}
	if diff := cmp.Diff(want, pod.Containers[0].SecurityContext); diff != "" {
		t.Errorf("container security context (-want +got):\n%s", diff)
	}
	wantTolerations := []corev1.Toleration{
		{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: "node-role.kubernetes.io/master", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	}
	if diff := cmp.Diff(wantTolerations, pod.Tolerations); diff != "" {
		t.Errorf("tolerations (-want +got):\n%s", diff)
	}
}

// With the offload it has what that needs, and no more.
func TestSpeakerWithOffload(t *testing.T) {
	t.Parallel()
	_, plain := pods(t, render(t))
	_, pod := pods(t, render(t, "--set", "speaker.arpOffload=true"))
	want := slices.Concat(plain.Containers[0].SecurityContext.Capabilities.Add, []corev1.Capability{"BPF", "NET_ADMIN"})
	if got := pod.Containers[0].SecurityContext.Capabilities.Add; !slices.Equal(got, want) {
		t.Errorf("capabilities %v, want %v", got, want)
	}
	const flag = "--arp-offload"
	if slices.Contains(plain.Containers[0].Args, flag) || !slices.Contains(pod.Containers[0].Args, flag) {
		t.Errorf("arguments without the offload %q, with it %q", plain.Containers[0].Args, pod.Containers[0].Args)
	}
}

// What one part of the chart names, the other must have.
func TestReferences(t *testing.T) {
	t.Parallel()
	objs := render(t)
	_, speaker := pods(t, objs)
	speakerLabels := one[*appsv1.DaemonSet](t, objs).Spec.Template.Labels

	found, err := labels.Parse(env(speaker, "METALLB_ML_LABELS"))
	if err != nil || !found.Matches(labels.Set(speakerLabels)) {
		t.Errorf("METALLB_ML_LABELS %q does not find Pods labelled %v (%v)", env(speaker, "METALLB_ML_LABELS"), speakerLabels, err)
	}
	if found.Matches(labels.Set(one[*appsv1.Deployment](t, objs).Spec.Template.Labels)) {
		t.Errorf("METALLB_ML_LABELS %q also finds the controller", found)
	}
	controller, _ := pods(t, objs)
	secret := env(controller, "METALLB_ML_SECRET_NAME")
	volumes := map[string]corev1.Volume{}
	for _, v := range speaker.Volumes {
		volumes[v.Name] = v
	}
	if got := volumes["memberlist"].Secret.SecretName; got != secret {
		t.Errorf("the controller makes Secret %q, the speakers mount %q", secret, got)
	}
	config := one[*corev1.ConfigMap](t, objs)
	if got := volumes["excludel2"].ConfigMap.Name; got != config.Name {
		t.Errorf("the speakers mount ConfigMap %q, the chart has %q", got, config.Name)
	}
	for _, m := range speaker.Containers[0].VolumeMounts {
		if m.Name == "memberlist" && m.MountPath != env(speaker, "METALLB_ML_SECRET_KEY_PATH") {
			t.Errorf("the key is mounted at %s, the speaker looks in %s", m.MountPath, env(speaker, "METALLB_ML_SECRET_KEY_PATH"))
		}
		if m.Name == "excludel2" && !hasArg(speaker, "--excludel2-config="+m.MountPath+"/"+onlyKey(t, config.Data)) {
			t.Errorf("no argument names %s/%s: %v", m.MountPath, onlyKey(t, config.Data), speaker.Containers[0].Args)
		}
	}
	accounts := []string{}
	for _, sa := range find[*corev1.ServiceAccount](objs) {
		accounts = append(accounts, sa.Name)
	}
	if want := []string{controller.ServiceAccountName, speaker.ServiceAccountName}; !slices.Equal(accounts, want) {
		t.Errorf("service accounts: want %v, got %v", want, accounts)
	}
}

// The programs know every flag the chart passes.
func TestFlagsAreKnown(t *testing.T) {
	t.Parallel()
	controller, speaker := pods(t, render(t, "--set", "loadBalancerClass=a.b/c,speaker.ignoreExcludeLB=true,speaker.l2Probe=1s,speaker.l2ProbeAgain=1m,speaker.l2Refresh=0s,speaker.l2BalanceInterval=10m,speaker.bgpAnnounceDelay=1s,speaker.bgpDrainWait=0s,speaker.arpOffload=true"))
	for name, pod := range map[string]corev1.PodSpec{"controller": controller, "speaker": speaker} {
		help, more, err := command(t, program(t, name, "build"), "--help")
		if err != nil {
			t.Errorf("%s --help: %v", name, err)
		}
		for _, arg := range pod.Containers[0].Args {
			flag, _, _ := strings.Cut(arg, "=")
			if !strings.Contains(help+more, flag+" ") {
				t.Errorf("%s does not know %s", name, flag)
			}
		}
	}
}

// The CRDs come with the release and stay when it goes.
func TestCRDs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(root + "/config/crd/*.io_*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs in config/crd: %v", err)
	}
	crds := customResources(render(t), "CustomResourceDefinition")
	if len(crds) != len(files) {
		t.Errorf("config/crd has %d CRDs, the chart %d", len(files), len(crds))
	}
	for _, crd := range crds {
		if got := crd.GetAnnotations()["helm.sh/resource-policy"]; got != "keep" {
			t.Errorf("%s: want resource-policy keep, got %q: helm uninstall would delete every pool of the cluster", crd.GetName(), got)
		}
	}
	if left := customResources(render(t, "--set", "crds.enabled=false"), "CustomResourceDefinition"); len(left) != 0 {
		t.Errorf("crds.enabled=false leaves %d CRDs", len(left))
	}
}

// The sample is what every MetalLB user has applied once. It is not ours to edit.
func TestQuickstartIsUnedited(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(root + "/config/samples/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const want = "3afd68079b3402193d88d69caad443b2bbff5a217370ac596c7feca29f5f8626"
	if got := fmt.Sprintf("%x", sha256.Sum256(text)); got != want {
		t.Errorf("quickstart.yaml was changed: want SHA-256 %s, got %s", want, got)
	}
	objs, err := decode(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(objs) != 4 {
		t.Errorf("want 4 objects, got %d", len(objs))
	}
}

// kubectl apply -k config/default installs what the chart's defaults install.
func TestKustomizeEqualsChart(t *testing.T) {
	t.Parallel()
	out, msg, err := command(t, program(t, "kube", "bin/kube"), "kubectl", "kustomize", root+"/config/default")
	if err != nil {
		t.Fatalf("kubectl kustomize: %v\n%s", err, msg)
	}
	objs, err := decode(out)
	if err != nil {
		t.Fatal(err)
	}
	got := names(t, objs)
	want := append(names(t, renderAs(t, "herald", "metallb-system")), "Namespace/metallb-system")
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects of config/default (-chart +kustomize), try make generate:\n%s", diff)
	}
	wantController, wantSpeaker := pods(t, renderAs(t, "herald", "metallb-system"))
	gotController, gotSpeaker := pods(t, objs)
	if diff := cmp.Diff(wantController, gotController); diff != "" {
		t.Errorf("controller (-chart +kustomize):\n%s", diff)
	}
	if diff := cmp.Diff(wantSpeaker, gotSpeaker); diff != "" {
		t.Errorf("speaker (-chart +kustomize):\n%s", diff)
	}
}

// The notes end with a manifest that can be pasted into a shell.
func TestNotes(t *testing.T) {
	t.Parallel()
	out, msg, err := command(t, program(t, "helm", "bin/helm"), "install", "rel", chart, "--namespace", "lb", "--dry-run=client")
	if err != nil {
		t.Fatalf("helm install --dry-run: %v\n%s", err, msg)
	}
	_, notes, ok := strings.Cut(out, "NOTES:")
	if !ok {
		t.Fatal("no NOTES in the output of helm install")
	}
	_, rest, _ := strings.Cut(notes, "<<EOF\n")
	manifest, _, ok := strings.Cut(rest, "\n  EOF")
	if !ok {
		t.Fatalf("no manifest between <<EOF and EOF in\n%s", notes)
	}
	var lines []string
	for line := range strings.Lines(manifest) {
		lines = append(lines, strings.TrimPrefix(line, "  "))
	}
	objs, err := decode(strings.Join(lines, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"IPAddressPool", "L2Advertisement"} {
		found := customResources(objs, kind)
		if len(found) != 1 || found[0].GetNamespace() != "lb" {
			t.Errorf("want one %s in namespace lb, got %v", kind, found)
		}
	}
}

func customResources(objs objects, kind string) []*unstructured.Unstructured {
	return slices.DeleteFunc(find[*unstructured.Unstructured](objs), func(u *unstructured.Unstructured) bool { return u.GetKind() != kind })
}

// names returns Kind/name of every object, sorted.
func names(t *testing.T, objs objects) []string {
	t.Helper()
	all := make([]string, 0, len(objs))
	for _, o := range objs {
		m, err := meta.Accessor(o)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.GetObjectKind().GroupVersionKind().Kind+"/"+m.GetName())
	}
	slices.Sort(all)
	return all
}

// env returns the fixed value of a variable of the first container.
func env(pod corev1.PodSpec, name string) string {
	for _, e := range pod.Containers[0].Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func hasArg(pod corev1.PodSpec, arg string) bool { return slices.Contains(pod.Containers[0].Args, arg) }

func onlyKey(t *testing.T, data map[string]string) string {
	t.Helper()
	if len(data) != 1 {
		t.Fatalf("want one key, got %d", len(data))
	}
	for k := range data {
		return k
	}
	return ""
}
