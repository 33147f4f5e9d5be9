package main

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLeasesEventsQuestionsAndDryRunsAreNoWrites(t *testing.T) {
	for target, want := range map[string]bool{
		"POST /api/v1/namespaces/a/configmaps":                              true,
		"PATCH /apis/apps/v1/namespaces/a/statefulsets/b":                   true,
		"DELETE /api/v1/namespaces/a/secrets/b":                             true,
		"GET /api/v1/namespaces/a/configmaps/b":                             false,
		"PUT /apis/coordination.k8s.io/v1/namespaces/a/leases/b":            false,
		"POST /apis/coordination.k8s.io/v1/namespaces/a/leases":             false,
		"POST /apis/events.k8s.io/v1/namespaces/a/events":                   false,
		"POST /apis/authentication.k8s.io/v1/tokenreviews":                  false,
		"PATCH /apis/apps/v1/namespaces/a/statefulsets/b?dryRun=All":        false,
		"PATCH /api/v1/namespaces/a/configmaps/b?fieldManager=x&force=true": true,
	} {
		verb, path, _ := strings.Cut(target, " ")
		if got := isWrite(httptest.NewRequest(verb, path, nil)); got != want {
			t.Errorf("%s: %v", target, got)
		}
	}
}

func TestOnlyNewWritesKill(t *testing.T) {
	book := &book{out: json.NewEncoder(io.Discard)}
	const path = "/api/v1/namespaces/a/pods/b"
	note := func(path, answer string) bool {
		t.Helper()
		kills, err := book.note(1, "PATCH", path, []byte(answer))
		if err != nil {
			t.Fatal(err)
		}
		return kills
	}
	first := `{"metadata": {"name": "b", "resourceVersion": "1", "uid": "x"}, "spec": {"a": 1}, "status": {"ready": 1}}`
	again := `{"metadata": {"name": "b", "resourceVersion": "2", "uid": "y"}, "spec": {"a": 1}, "status": {"ready": 2}}`
	other := `{"metadata": {"name": "b", "resourceVersion": "3", "uid": "y"}, "spec": {"a": 2}, "status": {"ready": 2}}`
	if note(path, first) {
		t.Error("nobody asked for kills")
	}
	book.turn(true)
	for _, step := range []struct {
		path, answer string
		kills        bool
	}{
		{path, first, true},
		{path, again, false}, // says what is said already
		{path, other, true},
		{path, first, false}, // and back
		{path + "/status", first, true},
		{path + "/status", again, true}, // here the status is what was written
	} {
		if got := note(step.path, step.answer); got != step.kills {
			t.Errorf("%s %s: %v", step.path, step.answer, got)
		}
	}
	book.turn(false)
	if note(path, `{"spec": 3}`) {
		t.Error("no kills any more")
	}
}

func TestTimesOfConditionsAreNotNew(t *testing.T) {
	one := essence("/x/status", []byte(`{"status": {"conditions": [{"type": "A", "lastTransitionTime": "1"}]}}`))
	two := essence("/x/status", []byte(`{"status": {"conditions": [{"type": "A", "lastTransitionTime": "2"}]}}`))
	if string(one) != string(two) {
		t.Errorf("%s, %s", one, two)
	}
}
