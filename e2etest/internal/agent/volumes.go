// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/internal/container"
)

// volumes are the directories of one Pod's volumes.
type volumes struct {
	agent *Agent
	facts podFacts
	dir   string
	// renew is when the first service account token has to be replaced.
	renew time.Time
}

// file is one file of a volume that comes from objects.
type file struct {
	data []byte
	mode fs.FileMode
}

func (v *volumes) path(name string) string { return filepath.Join(v.dir, name) }

// fill makes every volume. It is called again to bring the contents up to date.
func (v *volumes) fill(ctx context.Context) error {
	v.renew = time.Time{}
	for _, vol := range v.facts.pod.Spec.Volumes {
		if err := v.fillOne(ctx, vol); err != nil {
			return fmt.Errorf("volume %s: %w", vol.Name, err)
		}
	}
	return nil
}

func (v *volumes) fillOne(ctx context.Context, vol corev1.Volume) error {
	path := v.path(vol.Name)
	switch {
	case vol.EmptyDir != nil:
		if err := os.MkdirAll(path, 0o777); err != nil {
			return err
		}
		return os.Chmod(path, 0o777) // whatever the umask says
	case vol.HostPath != nil:
		return nil // see source
	}
	files, err := v.contents(ctx, vol)
	if err != nil {
		return err
	}
	return publish(path, files, v.group())
}

// contents collects the files of a volume that comes from objects.
func (v *volumes) contents(ctx context.Context, vol corev1.Volume) (map[string]file, error) {
	files := map[string]file{}
	switch {
	case vol.ConfigMap != nil:
		s := vol.ConfigMap
		return files, v.fromConfigMap(ctx, files, s.Name, s.Items, mode(s.DefaultMode), isTrue(s.Optional))
	case vol.Secret != nil:
		s := vol.Secret
		return files, v.fromSecret(ctx, files, s.SecretName, s.Items, mode(s.DefaultMode), isTrue(s.Optional))
	case vol.DownwardAPI != nil:
		return files, v.fromDownwardAPI(files, vol.DownwardAPI.Items, mode(vol.DownwardAPI.DefaultMode))
	case vol.Projected != nil:
		for _, s := range vol.Projected.Sources {
			if err := v.fromProjection(ctx, files, s, mode(vol.Projected.DefaultMode)); err != nil {
				return nil, err
			}
		}
		return files, nil
	}
	return nil, errors.New("this kind of volume is not supported in the lab")
}

func (v *volumes) fromProjection(ctx context.Context, files map[string]file, s corev1.VolumeProjection, m fs.FileMode) error {
	switch {
	case s.ConfigMap != nil:
		return v.fromConfigMap(ctx, files, s.ConfigMap.Name, s.ConfigMap.Items, m, isTrue(s.ConfigMap.Optional))
	case s.Secret != nil:
		return v.fromSecret(ctx, files, s.Secret.Name, s.Secret.Items, m, isTrue(s.Secret.Optional))
	case s.DownwardAPI != nil:
		return v.fromDownwardAPI(files, s.DownwardAPI.Items, m)
	case s.ServiceAccountToken != nil:
		return v.fromToken(ctx, files, s.ServiceAccountToken, m)
	}
	return errors.New("this kind of projection is not supported in the lab")
}

func (v *volumes) fromConfigMap(ctx context.Context, files map[string]file, name string, items []corev1.KeyToPath, m fs.FileMode, optional bool) error {
	object, err := v.agent.configMap(ctx, v.facts.pod.Namespace, name, optional)
	if err != nil || object == nil {
		return err
	}
	data := maps.Clone(object.BinaryData)
	if data == nil {
		data = map[string][]byte{}
	}
	for key, value := range object.Data {
		data[key] = []byte(value)
	}
	return pick(files, "configmap "+name, data, items, m, optional)
}

func (v *volumes) fromSecret(ctx context.Context, files map[string]file, name string, items []corev1.KeyToPath, m fs.FileMode, optional bool) error {
	object, err := v.agent.secret(ctx, v.facts.pod.Namespace, name, optional)
	if err != nil || object == nil {
		return err
	}
	return pick(files, "secret "+name, object.Data, items, m, optional)
}

func (v *volumes) fromDownwardAPI(files map[string]file, items []corev1.DownwardAPIVolumeFile, m fs.FileMode) error {
	for _, item := range items {
		if item.FieldRef == nil {
			return fmt.Errorf("%s: only fieldRef is supported in the lab", item.Path)
		}
		value, err := v.facts.field(item.FieldRef.FieldPath)
		if err != nil {
			return err
		}
		files[item.Path] = file{[]byte(value), itemMode(item.Mode, m)}
	}
	return nil
}

// fromToken asks for a token that is bound to the Pod, as a kubelet does.
func (v *volumes) fromToken(ctx context.Context, files map[string]file, s *corev1.ServiceAccountTokenProjection, m fs.FileMode) error {
	pod := v.facts.pod
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: s.ExpirationSeconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
		},
	}}
	if s.Audience != "" {
		request.Spec.Audiences = []string{s.Audience}
	}
	accounts := v.agent.client.CoreV1().ServiceAccounts(pod.Namespace)
	got, err := accounts.CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("token of service account %s: %w", pod.Spec.ServiceAccountName, err)
	}
	// At four fifths of its life, as a kubelet does.
	renew := time.Now().Add(time.Until(got.Status.ExpirationTimestamp.Time) * 4 / 5)
	if v.renew.IsZero() || renew.Before(v.renew) {
		v.renew = renew
	}
	files[s.Path] = file{[]byte(got.Status.Token), m}
	return nil
}

// pick takes all keys, or the named items.
func pick(files map[string]file, what string, data map[string][]byte, items []corev1.KeyToPath, m fs.FileMode, optional bool) error {
	if len(items) == 0 {
		for key, value := range data {
			files[key] = file{value, m}
		}
		return nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok && optional {
			continue
		}
		if !ok {
			return fmt.Errorf("%s has no key %q", what, item.Key)
		}
		files[item.Path] = file{value, itemMode(item.Mode, m)}
	}
	return nil
}

func mode(m *int32) fs.FileMode {
	if m == nil {
		return 0o644
	}
	return fs.FileMode(*m)
}

func itemMode(m *int32, otherwise fs.FileMode) fs.FileMode {
	if m == nil {
		return otherwise
	}
	return fs.FileMode(*m)
}

// group is the Pod's fsGroup, or -1.
func (v *volumes) group() int {
	if sc := v.facts.pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		return int(*sc.FSGroup)
	}
	return -1
}

// publish writes the files beside the present ones and swaps both with one rename: a reader sees all old or all new.
//
//	dir/key -> ..data/key     dir/..data -> ..1234     dir/..1234/key
func publish(dir string, files map[string]file, group int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return err
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("path %q leaves the volume", name)
		}
		target := filepath.Join(fresh, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		m := files[name].mode
		if group >= 0 {
			m |= 0o040
		}
		if err := errors.Join(os.WriteFile(target, files[name].data, 0o600), os.Chmod(target, m), os.Chown(target, -1, group)); err != nil {
			return err
		}
	}
	return swap(dir, filepath.Base(fresh), files)
}

func swap(dir, fresh string, files map[string]file) error {
	data := filepath.Join(dir, "..data")
	old, _ := os.Readlink(data) // none the first time
	next := filepath.Join(dir, "..next")
	if err := os.Symlink(fresh, next); err != nil {
		return err
	}
	if err := os.Rename(next, data); err != nil {
		return err
	}
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		link := filepath.Join(dir, top)
		if err := os.Symlink("..data/"+top, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, old))
}

// source is the node's directory or file behind a volume.
func (v *volumes) source(vol corev1.Volume) (path string, readOnly bool, err error) {
	if vol.HostPath == nil {
		fromObjects := vol.EmptyDir == nil
		return v.path(vol.Name), fromObjects, nil
	}
	// A node shares the machine's files, which a lab must not change. /run is the node's own.
	path = filepath.Clean(vol.HostPath.Path)
	path = strings.Replace(path, "/var/run/", "/run/", 1)
	if strings.HasPrefix(path, "/run/") {
		return path, false, os.MkdirAll(path, 0o755)
	}
	if _, err := os.Stat(path); err == nil {
		return path, true, nil
	}
	path = filepath.Join(base, "hostpath", path)
	return path, false, os.MkdirAll(path, 0o755)
}

// mounts resolves a container's volume mounts.
func (v *volumes) mounts(c corev1.Container, env map[string]string) ([]container.Mount, error) {
	var out []container.Mount
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(v.facts.pod.Spec.Volumes, func(vol corev1.Volume) bool { return vol.Name == m.Name })
		if i < 0 {
			return nil, fmt.Errorf("volume mount %s: no such volume", m.Name)
		}
		source, readOnly, err := v.source(v.facts.pod.Spec.Volumes[i])
		if err != nil {
			return nil, fmt.Errorf("volume mount %s: %w", m.Name, err)
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub = expand(m.SubPathExpr, env)
		}
		if sub != "" {
			if !filepath.IsLocal(sub) {
				return nil, fmt.Errorf("volume mount %s: path %q leaves the volume", m.Name, sub)
			}
			source = filepath.Join(source, sub)
			if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) && !readOnly {
				if err := os.MkdirAll(source, 0o777); err != nil {
					return nil, fmt.Errorf("volume mount %s: %w", m.Name, err)
				}
			}
		}
		out = append(out, container.Mount{Source: source, Target: m.MountPath, ReadOnly: readOnly || m.ReadOnly})
	}
	return out, nil
}

// refill brings the volumes up to date. Tokens are asked for again only when it is time.
func (v *volumes) refill(ctx context.Context, renew time.Time) error {
	due := !renew.IsZero() && time.Now().After(renew)
	v.renew = renew
	if due {
		v.renew = time.Time{}
	}
	for _, vol := range v.facts.pod.Spec.Volumes {
		hasToken := vol.Projected != nil && slices.ContainsFunc(vol.Projected.Sources,
			func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil })
		follows := vol.ConfigMap != nil || vol.Secret != nil || vol.Projected != nil && (!hasToken || due)
		if !follows {
			continue
		}
		if err := v.fillOne(ctx, vol); err != nil {
			return fmt.Errorf("volume %s: %w", vol.Name, err)
		}
	}
	return nil
}
