// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// A typo is an error, with the place in the message.
func TestSchemaRejects(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ set, want string }{
		{"speakr.logLevel=debug", "additional properties 'speakr' not allowed"},
		{"speaker.tolerateMastr=true", "additional properties 'tolerateMastr' not allowed"},
		{"controller.loglevel=debug", "additional properties 'loglevel' not allowed"},
		{"controller.logLevel=verbose", "/controller/logLevel"},
		{"controller.image.pullPolicy=always", "/controller/image/pullPolicy"},
		{"controller.replicas=0", "/controller/replicas"},
		{"controller.livenessProbe.failures=1", "additional properties 'failures' not allowed"},
		{"controller.resources.limit.cpu=1", "additional properties 'limit' not allowed"},
		{"speaker.memberlist.enabled=false", "/speaker/memberlist/enabled"},
		{"speaker.memberlist.mlBindPort=70000", "/speaker/memberlist/mlBindPort"},
		{"speaker.memberlist.mlSecretKeyPath=etc", "/speaker/memberlist/mlSecretKeyPath"},
		{"speaker.excludeInterfaces.patterns={^(}", "/speaker/excludeInterfaces/patterns/0"},
		{"speaker.updateStrategy.type=Recreate", "/speaker/updateStrategy/type"},
		{"speaker.tolerations[0].effect=NoWay", "/speaker/tolerations/0/effect"},
		{"speaker.l2Probe=300", "/speaker/l2Probe"},
		{"speaker.l2Refresh=soon", "/speaker/l2Refresh"},
		{"speaker.arpOffload=yes", "/speaker/arpOffload"},
		{"speaker.bgpAnnounceDelay=5", "/speaker/bgpAnnounceDelay"},
		{"speaker.frr.enabled=true", "additional properties 'frr' not allowed"},
		{"prometheus.metricsPort=http", "/prometheus/metricsPort"},
		{"loadBalancerClass=a b", "/loadBalancerClass"},
		{"crds.enable=false", "additional properties 'enable' not allowed"},
	} {
		t.Run(tc.set, func(t *testing.T) {
			t.Parallel()
			_, msg, err := command(t, program(t, "helm", "bin/helm"), "template", "rel", chart, "--set", tc.set)
			if err == nil {
				t.Fatal("want an error, it was rendered")
			}
			if !strings.Contains(msg, tc.want) {
				t.Errorf("want a message with %q, got\n%s", tc.want, msg)
			}
		})
	}
}

// The values of a MetalLB user that mean the same here.
const metallbValues = `
loadBalancerClass: ""
rbac: {create: true}
crds: {enabled: true}
prometheus: {metricsPort: 7472, scrapeAnnotations: true}
controller:
  logLevel: debug
  image: {repository: example.com/controller, tag: v1, pullPolicy: IfNotPresent}
  strategy: {type: RollingUpdate}
  serviceAccount: {create: true, name: ctl, annotations: {a: b}}
  resources: {limits: {cpu: 100m, memory: 100Mi}}
  nodeSelector: {role: infra}
  tolerations: [{key: infra, operator: Exists, effect: NoSchedule}]
  priorityClassName: system-cluster-critical
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
  podAnnotations: {note: x}
  labels: {team: net}
  livenessProbe: {enabled: true, failureThreshold: 5}
  readinessProbe: {enabled: false}
speaker:
  logLevel: warn
  tolerateMaster: false
  ignoreExcludeLB: true
  secretName: gossip
  memberlist: {enabled: true, mlBindPort: 7950, mlBindAddrOverride: 10.0.0.1, mlSecretKeyPath: /etc/key}
  excludeInterfaces: {enabled: false}
  updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 2}}
  tolerations: [{operator: Exists}]
  priorityClassName: system-node-critical
  labels: {team: net}
`

func TestMetalLBValues(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(metallbValues), 0o600); err != nil {
		t.Fatal(err)
	}
	objs := render(t, "--values", file)
	controller, speaker := pods(t, objs)
	deployment, daemonSet := one[*appsv1.Deployment](t, objs), one[*appsv1.DaemonSet](t, objs)
	for what, ok := range map[string]bool{
		"controller image":       controller.Containers[0].Image == "example.com/controller:v1",
		"pull policy":            controller.Containers[0].ImagePullPolicy == corev1.PullIfNotPresent,
		"controller log level":   hasArg(controller, "--log-level=debug"),
		"controller account":     controller.ServiceAccountName == "ctl",
		"resources":              controller.Containers[0].Resources.Limits.Memory().String() == "100Mi",
		"node selector":          controller.NodeSelector["role"] == "infra",
		"controller tolerations": len(controller.Tolerations) == 1 && controller.Tolerations[0].Key == "infra",
		"priority":               controller.PriorityClassName == "system-cluster-critical",
		"own affinity replaces":  controller.Affinity.NodeAffinity != nil && controller.Affinity.PodAntiAffinity == nil,
		"annotation":             deployment.Spec.Template.Annotations["note"] == "x",
		"scrape annotation":      deployment.Spec.Template.Annotations["prometheus.io/port"] == "7472",
		"controller labels":      deployment.Spec.Template.Labels["team"] == "net",
		"liveness":               controller.Containers[0].LivenessProbe.FailureThreshold == 5,
		"no readiness":           controller.Containers[0].ReadinessProbe == nil,
		"secret of controller":   env(controller, "METALLB_ML_SECRET_NAME") == "gossip",
		"metrics port":           hasArg(controller, "--port=7472") && hasArg(speaker, "--port=7472"),
		"speaker log level":      hasArg(speaker, "--log-level=warn"),
		"ignore exclude":         hasArg(speaker, "--ignore-exclude-lb"),
		"gossip port":            hasArg(speaker, "--ml-bindport=7950"),
		"gossip address":         env(speaker, "METALLB_ML_BIND_ADDR") == "10.0.0.1",
		"gossip key":             env(speaker, "METALLB_ML_SECRET_KEY_PATH") == "/etc/key",
		"no exclusions":          strings.HasSuffix(strings.TrimSpace(one[*corev1.ConfigMap](t, objs).Data["excludel2.yaml"]), "[]"),
		"update strategy":        daemonSet.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntValue() == 2,
		"speaker tolerations":    len(speaker.Tolerations) == 1 && speaker.Tolerations[0].Key == "",
		"speaker labels":         daemonSet.Spec.Template.Labels["team"] == "net",
	} {
		if !ok {
			t.Errorf("%s: the value has no effect", what)
		}
	}
}

func TestOwnValues(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		set  string
		ok   func(*testing.T, objects) bool
	}{
		{"class reaches both", "loadBalancerClass=herald.io/lb", func(t *testing.T, o objects) bool {
			c, s := pods(t, o)
			return hasArg(c, "--lb-class=herald.io/lb") && hasArg(s, "--lb-class=herald.io/lb")
		}},
		{"no RBAC", "rbac.create=false", func(_ *testing.T, o objects) bool {
			return len(find[*rbacv1.ClusterRole](o))+len(find[*rbacv1.Role](o))+len(find[*rbacv1.RoleBinding](o))+
				len(find[*rbacv1.ClusterRoleBinding](o)) == 0
		}},
		{"no accounts", "controller.serviceAccount.create=false,speaker.serviceAccount.create=false", func(t *testing.T, o objects) bool {
			c, s := pods(t, o)
			return len(find[*corev1.ServiceAccount](o)) == 0 && c.ServiceAccountName == "default" && s.ServiceAccountName == "default"
		}},
		{"Pod monitors", "prometheus.podMonitor.enabled=true,prometheus.podMonitor.interval=30s", func(_ *testing.T, o objects) bool {
			return len(customResources(o, "PodMonitor")) == 2
		}},
		{"registry credentials", "imagePullSecrets[0].name=reg", func(t *testing.T, o objects) bool {
			c, s := pods(t, o)
			return c.ImagePullSecrets[0].Name == "reg" && s.ImagePullSecrets[0].Name == "reg"
		}},
		{"full name", "fullnameOverride=lb", func(t *testing.T, o objects) bool { return one[*appsv1.DaemonSet](t, o).Name == "lb-speaker" }},
		{"probe ports", "controller.healthProbePort=1,speaker.healthProbePort=2", func(t *testing.T, o objects) bool {
			c, s := pods(t, o)
			return hasArg(c, "--health-probe-port=1") && hasArg(s, "--health-probe-port=2") &&
				slices.ContainsFunc(s.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == "health" && p.ContainerPort == 2 })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if !tc.ok(t, render(t, "--set", tc.set)) {
				t.Errorf("--set %s has not the effect wanted", tc.set)
			}
		})
	}
}
