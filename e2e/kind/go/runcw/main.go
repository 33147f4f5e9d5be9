// Command runcw stands in front of runc on machines that are containers themselves and lack some capabilities, such
// as CAP_SYS_RESOURCE. It takes out of what runc is asked for what this machine cannot give (see spec.go), and becomes
// runc. On a machine that lacks nothing it changes nothing.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// runc is where Debian puts it, on the machine and in the node image.
const runc = "/usr/sbin/runc"

func main() {
	if err := prepare(os.Args[1:], thisMachine()); err != nil {
		fail(err)
	}
	fail(syscall.Exec(runc, append([]string{runc}, os.Args[1:]...), os.Environ()))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "runcw:", err)
	os.Exit(1)
}

// prepare changes the files that a command line of runc names: the bundle's config.json for `create` and `run`, the
// process file for `exec`.
func prepare(args []string, m machine) error {
	starts := false
	var files []string
	for i, arg := range args {
		switch {
		case arg == "create" || arg == "run" || arg == "exec":
			starts = true
		case i+1 == len(args):
		case arg == "--bundle" || arg == "-b":
			files = append(files, filepath.Join(args[i+1], "config.json"))
		case arg == "--process" || arg == "-p":
			files = append(files, args[i+1])
		}
	}
	if !starts {
		return nil
	}
	for _, file := range files {
		if err := m.fitFile(file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}
