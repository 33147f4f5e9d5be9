package main

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
)

// entry is what is said of a write.
type entry struct {
	Life   int    `json:"life"`
	Verb   string `json:"verb"`
	Path   string `json:"path"`
	New    bool   `json:"new"`
	Killed bool   `json:"killed"`
}

// book knows which writes were made, and whether one that is new kills.
type book struct {
	mu      sync.Mutex
	out     *json.Encoder
	killing bool
	seen    map[[sha256.Size]byte]bool
}

// turn begins anew: from now on new writes kill, or do not.
func (b *book) turn(killing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.killing, b.seen = killing, nil
}

// note enters a write with the object that the API server answered. It says whether the client is to be killed.
func (b *book) note(life int, verb, path string, answer []byte) (bool, error) {
	content := sha256.Sum256([]byte(verb + " " + path + "\n" + string(essence(path, answer))))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen == nil {
		b.seen = map[[sha256.Size]byte]bool{}
	}
	isNew := !b.seen[content]
	b.seen[content] = true
	kills := isNew && b.killing
	return kills, b.out.Encode(entry{Life: life, Verb: verb, Path: path, New: isNew, Killed: kills})
}

// ended enters that a life has ended, and neither by a kill nor by an order.
func (b *book) ended(life int, how string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Encode(map[string]any{"life": life, "ended": how})
}

// isWrite says whether a request changes an object that stays: a Lease is renewed by time, an Event is for people, a
// review is a question.
func isWrite(r *http.Request) bool {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		return false
	}
	if r.URL.Query().Has("dryRun") {
		return false
	}
	for _, aside := range []string{"/leases", "/events", "reviews"} {
		if strings.Contains(r.URL.Path+"/", aside+"/") {
			return false
		}
	}
	return true
}

// essence is what a write left, without what the API server counts and without times. An answer that is no JSON counts
// as it is.
func essence(path string, answer []byte) []byte {
	var object map[string]any
	if json.Unmarshal(answer, &object) != nil {
		return answer
	}
	if metadata, ok := object["metadata"].(map[string]any); ok {
		for _, key := range []string{"resourceVersion", "managedFields", "generation", "uid", "creationTimestamp"} {
			delete(metadata, key)
		}
	}
	// The status is somebody else's, unless it is what was written.
	if !strings.HasSuffix(path, "/status") {
		delete(object, "status")
	}
	forget(object, "lastTransitionTime")
	text, err := json.Marshal(object)
	if err != nil {
		return answer
	}
	return text
}

// forget takes a key away at every depth.
func forget(value any, key string) {
	switch value := value.(type) {
	case map[string]any:
		delete(value, key)
		for _, inner := range value {
			forget(inner, key)
		}
	case []any:
		for _, inner := range value {
			forget(inner, key)
		}
	}
}
