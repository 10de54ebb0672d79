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

// ensureSecret makes the Secret for gossip unless it exists. It never changes
// or reads one: all replicas may try, the first one wins. It retries until it
// succeeds, since speakers cannot start without.
func ensureSecret(ctx context.Context, c client.Client, namespace, name string, log *slog.Logger) error {
	for delay := time.Second; ; delay = min(2*delay, time.Minute) {
		err := createSecret(ctx, c, namespace, name)
		if err == nil {
			log.Info("made the key that encrypts gossip", "secret", types.NamespacedName{Namespace: namespace, Name: name}.String())
		}
		if apierrors.IsAlreadyExists(err) || ctx.Err() != nil {
			err = nil
		}
		if err == nil {
			return nil
		}
		log.Error("cannot make the Secret that speakers need to start; trying again", "secret", name, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
}

func createSecret(ctx context.Context, c client.Client, namespace, name string) error {
	random := make([]byte, secretBytes)
	_, _ = rand.Read(random) // never fails
	text := make([]byte, base64.StdEncoding.EncodedLen(secretBytes))
	base64.StdEncoding.Encode(text, random)
	return c.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{secretKey: text},
	})
}
