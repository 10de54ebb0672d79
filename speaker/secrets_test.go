// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heraldlb/herald/internal/core/bgp"
)

// fakeStore is the API server, as far as Secrets go.
type fakeStore struct {
	mu     sync.Mutex // guards the rest
	secret *corev1.Secret
	err    error
	reads  int
}

func (f *fakeStore) read(_ context.Context, name string) (*corev1.Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if f.err == nil && f.secret == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	}
	return f.secret, f.err
}

func (f *fakeStore) put(kind corev1.SecretType, key, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Type: kind, Data: map[string][]byte{key: []byte(value)}}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{}
		s := newSecrets(store.read)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.run(ctx) }()
		expect := func(after time.Duration, password bgp.Password, problem string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			got, err := s.get("tor")
			switch {
			case problem == "" && (err != nil || got != password):
				t.Errorf("password differs, or error %v", err)
			case problem != "" && (err == nil || !strings.Contains(err.Error(), problem) || got != ""):
				t.Errorf("error %v, want %q and no password", err, problem)
			}
		}
		expect(time.Hour, "", "has not been read yet")
		if store.reads != 0 {
			t.Errorf("%d reads, though no peer names a Secret", store.reads)
		}
		forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "tor", nil)
		store.err = forbidden
		s.want([]string{"tor"})
		expect(0, "", "not allowed to read")
		store.err = nil
		expect(secretsRetry, "", "does not exist")
		store.put(corev1.SecretTypeOpaque, "password", "x")
		expect(secretsRetry, "", "must be of type kubernetes.io/basic-auth")
		store.put(corev1.SecretTypeBasicAuth, "passphrase", "x")
		expect(secretsRetry, "", "has no key password")
		store.put(corev1.SecretTypeBasicAuth, "password", "one")
		expect(secretsRetry, "one", "")
		<-s.changed
		store.put(corev1.SecretTypeBasicAuth, "password", "two") // rotated
		expect(secretsEvery, "two", "")
		<-s.changed
		store.err = errors.New("connection refused")
		expect(time.Minute, "two", "") // what was read stands
		store.err = forbidden
		expect(time.Minute, "two", "")
		store.err = nil
		store.secret = nil
		expect(time.Minute, "", "does not exist")
		s.want(nil)
		reads := store.reads
		expect(time.Hour, "", "does not exist")
		if store.reads != reads {
			t.Errorf("%d more reads, though no peer names a Secret", store.reads-reads)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
