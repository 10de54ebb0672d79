// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// program is what runs in a container.
type program struct {
	argv []string
	// file is a program to mount at target; empty if argv names one that is in every container's root.
	file, target string
	// echo: nobody knows the image, and the lab's echo server stands for it.
	echo bool
}

// imageName strips what does not tell images apart here: registry host, tag and digest.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndexByte(image, ':'); colon > strings.LastIndexByte(image, '/') {
		image = image[:colon]
	}
	if host, rest, ok := strings.Cut(image, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		image = rest
	}
	return strings.TrimPrefix(image, "library/")
}

// mapped returns the program that stands for an image.
func mapped(images map[string]string, image string) (string, bool) {
	want := imageName(image)
	// Exact names come before longer spellings of the same: the result must not depend on the order of a map.
	names := make([]string, 0, len(images))
	for name := range images {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if imageName(name) == want {
			return images[name], true
		}
	}
	return "", false
}

// resolve decides what runs in a container, with command and args already expanded. installed says whether a program of that
// name is in every container's root; self is the lab program.
func resolve(images map[string]string, self string, c corev1.Container, command, args []string, installed func(string) bool) program {
	if file, ok := mapped(images, c.Image); ok {
		target := "/" + filepath.Base(file)
		switch {
		case len(command) == 0:
			return program{argv: append([]string{target}, args...), file: file, target: target}
		case filepath.Base(command[0]) == filepath.Base(file):
			return program{argv: slices.Concat([]string{target}, command[1:], args), file: file, target: target}
		}
		return program{argv: slices.Concat(command, args), file: file, target: target}
	}
	if len(command) > 0 && installed(command[0]) {
		return program{argv: slices.Concat(command, args)}
	}
	argv := append([]string{"/echo", "echo"}, echoPorts(c)...)
	return program{argv: argv, file: self, target: "/echo", echo: true}
}

// echoPorts are the ports an echo server listens on. Images that declare none nearly always serve HTTP.
func echoPorts(c corev1.Container) []string {
	var out []string
	for _, p := range c.Ports {
		protocol := strings.ToLower(string(p.Protocol))
		if protocol == "" {
			protocol = "tcp"
		}
		if protocol == "tcp" || protocol == "udp" {
			out = append(out, protocol+"/"+itoa(p.ContainerPort))
		}
	}
	if len(out) == 0 {
		return []string{"tcp/80"}
	}
	return out
}
