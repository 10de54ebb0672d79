// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestImageName(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{
		"nginx":                              "nginx",
		"nginx:alpine":                       "nginx",
		"docker.io/library/nginx:1.27":       "nginx",
		"heraldlb/speaker":                   "heraldlb/speaker",
		"ghcr.io/heraldlb/speaker:v0.1":      "heraldlb/speaker",
		"localhost/x@sha256:0123":            "x",
		"registry:5000/team/app:2@sha256:01": "team/app",
		"team/app/part:1":                    "team/app/part",
	} {
		if got := imageName(image); got != want {
			t.Errorf("imageName(%q) = %q, want %q", image, got, want)
		}
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	images := map[string]string{"quay.io/heraldlb/speaker": "/src/bin/speaker"}
	installed := func(name string) bool { return name == "sh" }
	port := func(n int32, p corev1.Protocol) corev1.ContainerPort {
		return corev1.ContainerPort{ContainerPort: n, Protocol: p}
	}
	for _, test := range []struct {
		name          string
		image         string
		ports         []corev1.ContainerPort
		command, args []string
		want          program
	}{
		{
			name: "a mapped image without command", image: "heraldlb/speaker:v1", args: []string{"--x"},
			want: program{argv: []string{"/speaker", "--x"}, file: "/src/bin/speaker", target: "/speaker"},
		},
		{
			name: "a mapped image, its program by another path", image: "heraldlb/speaker",
			command: []string{"/usr/bin/speaker", "--a"}, args: []string{"--b"},
			want: program{argv: []string{"/speaker", "--a", "--b"}, file: "/src/bin/speaker", target: "/speaker"},
		},
		{
			name: "a mapped image, another program in it", image: "heraldlb/speaker", command: []string{"sh", "-c", "/speaker"},
			want: program{argv: []string{"sh", "-c", "/speaker"}, file: "/src/bin/speaker", target: "/speaker"},
		},
		{
			name: "an unknown image that runs a known program", image: "busybox", command: []string{"sh"}, args: []string{"-c", "true"},
			want: program{argv: []string{"sh", "-c", "true"}},
		},
		{
			name: "an unknown image", image: "nginx:alpine",
			want: program{argv: []string{"/echo", "echo", "tcp/80"}, file: "/lab", target: "/echo", echo: true},
		},
		{
			name: "an unknown image with a program nobody has", image: "app", command: []string{"/app"},
			want: program{argv: []string{"/echo", "echo", "tcp/80"}, file: "/lab", target: "/echo", echo: true},
		},
		{
			name: "an unknown image that declares ports", image: "dns",
			ports: []corev1.ContainerPort{port(53, corev1.ProtocolUDP), port(8080, ""), port(9, corev1.ProtocolSCTP)},
			want:  program{argv: []string{"/echo", "echo", "udp/53", "tcp/8080"}, file: "/lab", target: "/echo", echo: true},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := corev1.Container{Image: test.image, Ports: test.ports}
			got := resolve(images, "/lab", c, test.command, test.args, installed)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(program{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
