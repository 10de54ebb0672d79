// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// secretKey is the entry of the Secret that speakers mount. Its name and form
// (base64 text of random bytes) are those of MetalLB, so that an existing
// Secret works.
const secretKey = "secretkey"

// secretBytes is the number of random bytes in it.
const secretBytes = 128

// secretInterval is the time between two looks at the Secret.
const secretInterval = 15 * time.Second

// keepSecret makes the Secret for gossip when it is missing, until ctx is done.
//
// It never changes one. All replicas may try, the first one wins. A Secret that
// is deleted comes back with the key it had: speakers that start with another
// key than those that run would form a cluster of their own, with owners of
// their own.
func keepSecret(ctx context.Context, c client.Client, namespace, name string, log *slog.Logger) error {
	var key []byte // the last known
	failures := 0
	for {
		delay := secretInterval
		if err := secretRound(ctx, c, types.NamespacedName{Namespace: namespace, Name: name}, &key, log); err != nil && ctx.Err() == nil {
			log.Error("cannot look after the Secret that speakers need to start; trying again", "secret", name, "error", err)
			delay = min(time.Second<<min(failures, 6), time.Minute)
			failures++
		} else {
			failures = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
}

// secretRound reads the key, or makes the Secret with the last known key or,
// without one, a new one.
func secretRound(ctx context.Context, c client.Client, id types.NamespacedName, key *[]byte, log *slog.Logger) error {
	var have corev1.Secret
	err := c.Get(ctx, id, &have)
	if err == nil {
		*key = have.Data[secretKey]
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return err
	}
	made := *key
	if len(made) == 0 {
		made = newKey()
	}
	err = c.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: id.Namespace, Name: id.Name},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{secretKey: made},
	})
	if apierrors.IsAlreadyExists(err) {
		return nil // another replica was quicker; the next round reads its key
	}
	if err != nil {
		return err
	}
	log.Info("made the Secret with the key that encrypts gossip", "secret", id.String(), "sameKeyAsBefore", len(*key) > 0)
	*key = made
	return nil
}

func newKey() []byte {
	random := make([]byte, secretBytes)
	_, _ = rand.Read(random) // never fails
	text := make([]byte, base64.StdEncoding.EncodedLen(secretBytes))
	base64.StdEncoding.Encode(text, random)
	return text
}
