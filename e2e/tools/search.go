package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// finding is a word that was found, as it is or encoded.
type finding struct {
	Word  string `json:"word"`
	Form  string `json:"form"`
	Where string `json:"where"`
}

// form is what a word looks like in some encoding.
type form struct {
	word, name string
	bytes      []byte
}

// forms lists what a word may look like. Base64 of a text that contains the word depends on where it stands in it: there
// are three ways, each without the first and last characters, which depend on the neighbours.
func forms(words []string) []form {
	var all []form
	for _, word := range words {
		all = append(all,
			form{word, "as it is", []byte(word)},
			form{word, "hex", []byte(hex.EncodeToString([]byte(word)))},
		)
		if escaped := url.QueryEscape(word); escaped != word {
			all = append(all, form{word, "percent", []byte(escaped)})
		}
		for skip := 0; skip < 3 && len(word)-skip >= 9; skip++ {
			inner := word[skip:]
			inner = inner[:len(inner)/3*3]
			all = append(all, form{word, "base64", []byte(base64.StdEncoding.EncodeToString([]byte(inner)))})
		}
	}
	return all
}

// searched is what was looked at. Unread lists what could not be, so that nothing is taken for searched that was not.
type searched struct {
	Processes int       `json:"processes"`
	Memory    int64     `json:"memory"`
	Files     int       `json:"files"`
	Bytes     int64     `json:"bytes"`
	Unread    []string  `json:"unread"`
	Found     []finding `json:"found"`
}

type searcher struct {
	searched
	forms []form
}

// search looks for words in the environment, memory and files of all processes of a container, as root of its node.
func search(args []string) error {
	flags := flag.NewFlagSet("search", flag.ExitOnError)
	pid := flags.Int("pid", 0, "first process of the container, as the node numbers it")
	var folders []string
	flags.Func("dir", "folder to search as well; may be repeated", func(folder string) error {
		folders = append(folders, folder)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	s := &searcher{searched: searched{Unread: []string{}, Found: []finding{}}, forms: forms(flags.Args())}
	if *pid != 0 {
		processes, err := beside(*pid)
		if err != nil {
			return err
		}
		for _, process := range processes {
			s.process(process)
		}
		// The trailing slash: the folder behind the link.
		folders = append(folders, fmt.Sprintf("/proc/%d/root/", *pid))
	}
	for _, folder := range folders {
		s.folder(folder)
	}
	return say(s.searched)
}

// beside lists the processes of the same container: those in the same process namespace.
func beside(pid int) ([]string, error) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return nil, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, link := range links {
		if namespace, err := os.Readlink(link); err == nil && namespace == own {
			found = append(found, strings.TrimSuffix(link, "/ns/pid"))
		}
	}
	return found, nil
}

func (s *searcher) process(folder string) {
	s.Processes++
	for _, name := range []string{"environ", "cmdline"} {
		s.file(filepath.Join(folder, name))
	}
	maps, err := os.Open(folder + "/maps")
	if err != nil {
		s.Unread = append(s.Unread, err.Error())
		return
	}
	defer maps.Close()
	memory, err := os.Open(folder + "/mem")
	if err != nil {
		s.Unread = append(s.Unread, err.Error())
		return
	}
	defer memory.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		s.region(folder, memory, lines.Text())
	}
}

// region searches one line of /proc/PID/maps: FROM-TO MODE OFFSET DEVICE INODE [NAME].
func (s *searcher) region(folder string, memory io.ReaderAt, line string) {
	fields := strings.Fields(line)
	// The kernel's clock and entry page have no bytes of the process.
	if len(fields) < 2 || fields[1][0] != 'r' || strings.HasSuffix(line, "[vsyscall]") || strings.Contains(line, "[vvar") {
		return
	}
	from, to, _ := strings.Cut(fields[0], "-")
	first, err := strconv.ParseInt(from, 16, 64)
	if err == nil {
		var last int64
		if last, err = strconv.ParseInt(to, 16, 64); err == nil {
			var n int64
			n, err = s.stream(folder+"/mem "+line, io.NewSectionReader(memory, first, last-first))
			s.Memory += n
		}
	}
	if err != nil {
		s.Unread = append(s.Unread, fmt.Sprintf("%s %s: %v", folder, line, err))
	}
}

func (s *searcher) folder(root string) {
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		inside := strings.TrimPrefix(path, root)
		switch {
		case err != nil:
			s.Unread = append(s.Unread, err.Error())
		case entry.IsDir() && (inside == "proc" || inside == "sys" || inside == "dev"):
			return filepath.SkipDir
		case entry.Type().IsRegular():
			s.file(path)
		}
		return nil
	})
	if err != nil {
		s.Unread = append(s.Unread, err.Error())
	}
}

func (s *searcher) file(path string) {
	file, err := os.Open(path)
	if err == nil {
		defer file.Close()
		var n int64
		n, err = s.stream(path, file)
		s.Files++
		s.Bytes += n
	}
	if err != nil {
		s.Unread = append(s.Unread, err.Error())
	}
}

// stream searches what it reads, piece by piece; pieces overlap, so that a word on their border is found.
func (s *searcher) stream(where string, from io.Reader) (int64, error) {
	longest := 0
	for _, form := range s.forms {
		longest = max(longest, len(form.bytes))
	}
	piece := make([]byte, 1<<20)
	kept, total := 0, int64(0)
	for {
		n, err := io.ReadFull(from, piece[kept:])
		total += int64(n)
		for _, form := range s.forms {
			if bytes.Contains(piece[:kept+n], form.bytes) {
				s.Found = append(s.Found, finding{form.word, form.name, where})
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		kept = copy(piece, piece[len(piece)-longest+1:])
	}
}
