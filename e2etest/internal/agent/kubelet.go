// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kubeletPort is where the API server expects a kubelet, for kubectl logs.
const kubeletPort = 10250

// warn writes a warning event about a Pod; a lost one does not matter. The one about an end must outlive it.
func (a *Agent) warn(ctx context.Context, pod *corev1.Pod, reason, message string) {
	a.log.Warn("pod", "reason", reason, "pod", pod.Namespace+"/"+pod.Name, "message", message)
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: fmt.Sprintf("%s.%x", pod.Name, now.UnixNano()),
		},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		},
		Type: corev1.EventTypeWarning, Reason: reason, Message: message, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "kubelet", Host: a.cfg.Node},
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, err := a.client.CoreV1().Events(pod.Namespace).Create(ctx, event, metav1.CreateOptions{}); err != nil {
			a.log.Warn("write event", "err", err)
		}
	}()
}

// serveLogs answers the one kubelet request that the lab supports.
func (a *Agent) serveLogs(ctx context.Context) error {
	cert, err := tls.X509KeyPair(a.cfg.ServingCert, a.cfg.ServingKey)
	if err != nil {
		return fmt.Errorf("kubelet port: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		if err := a.writeLog(w, r); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not supported in the lab: use 'lab exec' or 'lab shell' instead", http.StatusNotImplemented)
	})
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", ":"+strconv.Itoa(kubeletPort))
	if err != nil {
		return fmt.Errorf("kubelet port: %w", err)
	}
	server := &http.Server{
		Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, ReadHeaderTimeout: 10 * time.Second,
	}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("kubelet port: %w", err)
	}
	return ctx.Err()
}

// writeLog sends the latest run's log, or the one before, and goes on with follow until the reader has enough.
func (a *Agent) writeLog(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	prefix := r.PathValue("namespace") + "_" + r.PathValue("pod") + "_*"
	pattern := filepath.Join(a.cfg.LogDir, "pods", prefix, r.PathValue("container"))
	dirs, err := filepath.Glob(pattern)
	if err != nil || len(dirs) == 0 {
		return fmt.Errorf("no log of %s", r.URL.Path)
	}
	run, err := a.latestRun(dirs)
	if err != nil {
		return err
	}
	if q.Get("previous") == "true" {
		dir, name := filepath.Split(run)
		n, _ := strconv.Atoi(strings.TrimSuffix(name, ".log"))
		run = filepath.Join(dir, strconv.Itoa(n-1)+".log")
	}
	f, err := os.Open(run)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	defer f.Close()
	if n, err := strconv.Atoi(q.Get("tailLines")); err == nil {
		if err := seekLines(f, n); err != nil {
			return err
		}
	}
	for {
		if _, err := io.Copy(w, f); err != nil || q.Get("follow") != "true" {
			return nil // the reader has gone; too late for an error in any case
		}
		_ = http.NewResponseController(w).Flush()
		if !sleep(r.Context(), 200*time.Millisecond) {
			return nil
		}
	}
}

// latestRun is the newest log file in any of the directories.
func (a *Agent) latestRun(dirs []string) (string, error) {
	var latest string
	var when time.Time
	for _, dir := range dirs {
		files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		for _, f := range files {
			info, err := os.Stat(f)
			if err == nil && (latest == "" || info.ModTime().After(when)) {
				latest, when = f, info.ModTime()
			}
		}
	}
	if latest == "" {
		return "", errors.New("no log yet")
	}
	return latest, nil
}

// seekLines moves to the beginning of the n-th line from the end.
func seekLines(f *os.File, n int) error {
	data, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	at := len(data)
	for i := len(data) - 2; i >= -1; i-- {
		if i >= 0 && data[i] != '\n' {
			continue
		}
		if n--; n < 0 {
			break
		}
		at = i + 1
	}
	_, err = f.Seek(int64(at), io.SeekStart)
	return err
}
