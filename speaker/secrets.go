// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/core/lb"
)

// Times of reading Secrets. They are read by name, one by one, rather than
// watched: that takes no right to see the others.
const (
	secretsEvery = 30 * time.Second
	secretsRetry = 3 * time.Second // while one is missing or wrong
)

// secrets knows the passwords of BGP peers.
type secrets struct {
	// read returns a Secret of Herald's own namespace.
	read    func(ctx context.Context, name string) (*corev1.Secret, error)
	changed chan struct{} // capacity 1
	wake    chan struct{} // capacity 1: other names are wanted

	mu    sync.Mutex // guards the rest
	names []string
	known map[string]secret
}

// secret is a password, or why there is none.
type secret struct {
	password bgp.Password
	problem  string
}

func newSecrets(read func(ctx context.Context, name string) (*corev1.Secret, error)) *secrets {
	return &secrets{read: read, changed: make(chan struct{}, 1), wake: make(chan struct{}, 1), known: map[string]secret{}}
}

// secretsOf lists the Secrets that peers name.
func secretsOf(s *lb.Snapshot) []string {
	var out []string
	for i := range s.Peers {
		if name := s.Peers[i].PasswordSecret; name != "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// want says which Secrets are needed.
func (s *secrets) want(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.names, names) {
		return
	}
	s.names = names
	poke(s.wake)
}

// get returns a password, as last read.
func (s *secrets) get(name string) (bgp.Password, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.known[name]
	switch {
	case !ok:
		return "", fmt.Errorf("the Secret %q with the password has not been read yet", name)
	case k.problem != "":
		return "", errors.New(k.problem)
	}
	return k.password, nil
}

// run reads the Secrets until ctx ends.
func (s *secrets) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(s.readAll(ctx))
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// readAll reads each Secret once and says when to do so again.
func (s *secrets) readAll(ctx context.Context) time.Duration {
	s.mu.Lock()
	names := s.names
	s.mu.Unlock()
	if len(names) == 0 {
		return time.Hour
	}
	again := secretsEvery
	found := make(map[string]secret, len(names))
	for _, name := range names {
		now, ok := s.readOne(ctx, name)
		if !ok || now.problem != "" {
			again = secretsRetry
		}
		found[name] = now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	news := len(found) != len(s.known)
	for name, now := range found {
		news = news || s.known[name] != now
	}
	s.known = found
	if news {
		poke(s.changed)
	}
	return again
}

// readOne reads a Secret. While the API server does not answer, or does not
// know our rights (it starts, or the Role is made anew), what was read before
// stands, and ok is false.
func (s *secrets) readOne(ctx context.Context, name string) (found secret, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	obj, err := s.read(ctx, name)
	switch {
	case apierrors.IsNotFound(err):
		return secret{problem: fmt.Sprintf("the Secret %q with the password does not exist: create it in Herald's namespace, of type %s", name, corev1.SecretTypeBasicAuth)}, true
	case apierrors.IsForbidden(err) && !s.hasPassword(name):
		return secret{problem: fmt.Sprintf("the speaker is not allowed to read the Secret %q: check its Role", name)}, true
	case err != nil:
		s.mu.Lock()
		defer s.mu.Unlock()
		if before, known := s.known[name]; known {
			return before, false
		}
		return secret{problem: fmt.Sprintf("the Secret %q with the password cannot be read now: the API server does not answer", name)}, false
	}
	return judgeSecret(obj), true
}

func (s *secrets) hasPassword(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[name].password != ""
}

func judgeSecret(obj *corev1.Secret) secret {
	password := obj.Data[corev1.BasicAuthPasswordKey]
	switch {
	case obj.Type != corev1.SecretTypeBasicAuth:
		return secret{problem: fmt.Sprintf("the Secret %q is of type %s: it must be of type %s", obj.Name, obj.Type, corev1.SecretTypeBasicAuth)}
	case len(password) == 0:
		return secret{problem: fmt.Sprintf("the Secret %q has no key %s, or it is empty", obj.Name, corev1.BasicAuthPasswordKey)}
	}
	return secret{password: bgp.Password(password)}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
