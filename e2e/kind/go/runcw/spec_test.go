package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// weak is a machine without CAP_SYS_RESOURCE.
var weak = machine{
	bounding:    map[string]bool{"CAP_CHOWN": true, "CAP_NET_ADMIN": true},
	oomScoreAdj: 100,
	rlimits:     map[string]uint64{"RLIMIT_NOFILE": 1024},
}

const config = `{"ociVersion":"1.0.2","process":{"args":["sh"],
	"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"effective":["CAP_NET_ADMIN"]},
	"oomScoreAdj":-998,
	"rlimits":[{"type":"RLIMIT_NOFILE","hard":18446744073709551615,"soft":512},{"type":"RLIMIT_CPU","hard":9,"soft":9}]}}`

func fitted(t *testing.T, m machine, args func(file string) []string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepare(args(file), m); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func create(file string) []string {
	return []string{"--root", "/run/runc", "create", "--bundle", filepath.Dir(file), "id"}
}

// normal writes JSON as this program does.
func normal(t *testing.T, text string) string {
	t.Helper()
	var v map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	var process map[string]json.RawMessage
	if err := json.Unmarshal(v["process"], &process); err != nil {
		t.Fatal(err)
	}
	v["process"], _ = json.Marshal(process)
	out, _ := json.Marshal(v)
	return string(out)
}

func TestWhatTheMachineLacksIsTakenOut(t *testing.T) {
	want := normal(t, `{"ociVersion":"1.0.2","process":{"args":["sh"],
		"capabilities":{"bounding":["CAP_CHOWN"],"effective":["CAP_NET_ADMIN"]},
		"oomScoreAdj":100,
		"rlimits":[{"hard":1024,"soft":512,"type":"RLIMIT_NOFILE"},{"hard":9,"soft":9,"type":"RLIMIT_CPU"}]}}`)
	if got := fitted(t, weak, create); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAProcessFileIsFittedLikeABundle(t *testing.T) {
	got := fitted(t, weak, func(file string) []string { return []string{"exec", "--process", file, "id"} })
	if got != fitted(t, weak, create) {
		t.Errorf("got %s", got)
	}
}

func TestAMachineThatLacksNothingChangesNothing(t *testing.T) {
	strong := machine{bounding: map[string]bool{}, oomScoreAdj: 100, rlimits: map[string]uint64{"RLIMIT_NOFILE": 1}}
	for _, name := range capabilities {
		strong.bounding["CAP_"+name] = true
	}
	var got, want any
	if err := json.Unmarshal([]byte(fitted(t, strong, create)), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(config), &want); err != nil {
		t.Fatal(err)
	}
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

func TestOtherCommandsLeaveTheBundleAlone(t *testing.T) {
	got := fitted(t, weak, func(file string) []string { return []string{"delete", "--bundle", filepath.Dir(file), "id"} })
	if got != config {
		t.Errorf("got %s", got)
	}
}

func TestTheBoundingSetIsReadByNumber(t *testing.T) {
	set := boundingSet("Name:\tx\nCapBnd:\t0000000000001001\n")
	if len(set) != 2 || !set["CAP_CHOWN"] || !set["CAP_NET_ADMIN"] {
		t.Errorf("%v", set)
	}
}
