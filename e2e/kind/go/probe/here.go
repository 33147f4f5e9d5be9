package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// identity prints who this process is and what the kernel lets it do.
func identity([]string) error {
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	about := map[string]any{"hostname": hostname, "uid": os.Getuid(), "gid": os.Getgid()}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	about["groups"] = groups
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(status), "\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.HasPrefix(name, "Cap") || name == "NoNewPrivs" || name == "Seccomp" {
			about[name] = strings.TrimSpace(value)
		}
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	var addresses []string
	for _, a := range interfaces {
		addresses = append(addresses, a.String())
	}
	about["addresses"] = addresses
	printJSON(about)
	return nil
}

func environment([]string) error {
	for _, variable := range os.Environ() {
		fmt.Println(variable)
	}
	return nil
}

func cat(files []string) error {
	for _, file := range files {
		open, err := os.Open(file)
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, open)
		open.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// list prints each file below the paths with its mode, owner left out: what matters is whether it can be read.
func list(paths []string) error {
	return walk(paths, func(path string, entry fs.DirEntry) error {
		info, err := entry.Info()
		if err != nil {
			return nil // gone since
		}
		fmt.Println(info.Mode(), info.Size(), path)
		return nil
	})
}

// maxSearched bounds what is read of one file: files of /proc and /dev can be without end.
const maxSearched = 64 << 20

// grep prints the names of the files that hold a text, then how many could be read: none found in no files proves
// nothing.
func grep(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("grep takes a text and paths")
	}
	text := []byte(args[0])
	read, unreadable := 0, 0
	own := fmt.Sprintf("/proc/%d/", os.Getpid()) // its command line holds the text
	err := walk(args[1:], func(path string, entry fs.DirEntry) error {
		if !entry.Type().IsRegular() || strings.HasPrefix(path, own) {
			return nil
		}
		content, err := head(path)
		if err != nil {
			unreadable++
			return nil
		}
		read++
		if bytes.Contains(content, text) {
			fmt.Println(path)
		}
		return nil
	})
	printJSON(map[string]int{"read": read, "unreadable": unreadable})
	return err
}

func head(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxSearched))
}

func walk(paths []string, visit func(path string, entry fs.DirEntry) error) error {
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				if path == root {
					return err
				}
				return nil // what cannot be read is no obstacle to the rest
			}
			return visit(path, entry)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
