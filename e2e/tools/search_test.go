package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func searchedFor(word, text string) []finding {
	s := &searcher{forms: forms([]string{word})}
	if _, err := s.stream("text", strings.NewReader(text)); err != nil {
		panic(err)
	}
	return s.Found
}

func TestWordsAreFoundHoweverTheyAreWritten(t *testing.T) {
	const word = "a-secret of some length"
	for before := range 4 {
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + word + "yy"))
		if found := searchedFor(word, encoded); len(found) != 1 || found[0].Form != "base64" {
			t.Errorf("base64 after %d bytes: %v", before, found)
		}
	}
	for text, form := range map[string]string{
		word:                      "as it is",
		"a-secret+of+some+length": "percent",
		"612d736563726574206f6620736f6d65206c656e677468": "hex",
	} {
		if found := searchedFor(word, text); len(found) != 1 || found[0].Form != form {
			t.Errorf("%s: %v", text, found)
		}
	}
	if found := searchedFor(word, "another secret of some length"); len(found) != 0 {
		t.Error(found)
	}
}

func TestWordsAreFoundAcrossPieces(t *testing.T) {
	const word = "0123456789"
	for offset := 1<<20 - 2*len(word); offset < 1<<20+len(word); offset++ {
		if found := searchedFor(word, strings.Repeat(".", offset)+word); len(found) == 0 {
			t.Fatalf("at %d: %v", offset, found)
		}
	}
}

// inMemory stands for what a program keeps in its memory.
var inMemory = strings.Repeat("only-in-", 2) + "memory"

func TestMemoryAndFilesOfAProcessAreSearched(t *testing.T) {
	s := &searcher{forms: forms([]string{inMemory})}
	s.process("/proc/self")
	if len(s.Found) == 0 || s.Memory == 0 || len(s.Unread) != 0 {
		t.Errorf("%+v", s.searched)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "file"), []byte(inMemory), 0o600); err != nil {
		t.Fatal(err)
	}
	s = &searcher{forms: s.forms}
	s.folder(folder)
	if len(s.Found) != 1 || s.Files != 1 {
		t.Errorf("%+v", s.searched)
	}
}

func TestPayloadIsKeptByDirection(t *testing.T) {
	frame := make([]byte, 14+20+20)
	frame[12], frame[14], frame[14+9], frame[14+20+12] = 0x08, 0x45, 6, 5<<4
	frame[14+20+1] = 80
	name, payload := flow(append(frame, "text"...))
	if name != "[0 0 0 0]:80 > [0 0 0 0]:0" || string(payload) != "text" {
		t.Errorf("%s %q", name, payload)
	}
	// What is cut off or another protocol is kept whole.
	for _, frame := range [][]byte{frame[:10], frame[:40], nil} {
		if _, payload := flow(frame); len(payload) != len(frame) {
			t.Errorf("%d of %d bytes", len(payload), len(frame))
		}
	}
}
