package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// machine is what this process can hand on at most.
type machine struct {
	bounding    map[string]bool // capabilities
	oomScoreAdj int64
	rlimits     map[string]uint64 // hard limits
}

// capabilities in the order of their numbers, include/uapi/linux/capability.h.
var capabilities = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
	SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE
	AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
	CHECKPOINT_RESTORE`)

// resources whose limits container engines set, by number, include/uapi/asm-generic/resource.h.
var resources = map[string]int{"RLIMIT_CORE": 4, "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8}

func thisMachine() machine {
	m := machine{rlimits: map[string]uint64{}}
	// A file that cannot be read leaves the zero value: nothing is handed on that was not seen.
	status, _ := os.ReadFile("/proc/self/status")
	m.bounding = boundingSet(string(status))
	score, _ := os.ReadFile("/proc/self/oom_score_adj")
	m.oomScoreAdj, _ = strconv.ParseInt(strings.TrimSpace(string(score)), 10, 64)
	for name, number := range resources {
		var limit syscall.Rlimit
		if syscall.Getrlimit(number, &limit) == nil {
			m.rlimits[name] = limit.Max
		}
	}
	return m
}

// boundingSet reads the line CapBnd of /proc/PID/status.
func boundingSet(status string) map[string]bool {
	set := map[string]bool{}
	for _, line := range strings.Split(status, "\n") {
		hex, ok := strings.CutPrefix(line, "CapBnd:")
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			continue
		}
		for i, name := range capabilities {
			if bits>>i&1 == 1 {
				set["CAP_"+name] = true
			}
		}
	}
	return set
}

// fitFile rewrites a bundle's config.json or a process file.
func (m machine) fitFile(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec map[string]any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber() // a limit of 2^64-1 is no float
	if err := decoder.Decode(&spec); err != nil {
		return err
	}
	process, ok := spec["process"].(map[string]any)
	if !ok {
		process = spec
	}
	m.fit(process)
	fitted, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(file, fitted, 0o600)
}

// fit takes from a process what this machine cannot give.
func (m machine) fit(process map[string]any) {
	if sets, ok := process["capabilities"].(map[string]any); ok {
		for name, set := range sets {
			sets[name] = m.present(set)
		}
	}
	if m.bounding["CAP_SYS_RESOURCE"] {
		return
	}
	// Without that capability the score can only be raised, and hard limits only lowered.
	if score, ok := process["oomScoreAdj"].(json.Number); ok {
		if wanted, err := score.Int64(); err == nil && wanted < m.oomScoreAdj {
			process["oomScoreAdj"] = m.oomScoreAdj
		}
	}
	limits, _ := process["rlimits"].([]any)
	for _, limit := range limits {
		if limit, ok := limit.(map[string]any); ok {
			m.fitLimit(limit)
		}
	}
}

func (m machine) present(set any) any {
	wanted, ok := set.([]any)
	if !ok {
		return set
	}
	present := []any{}
	for _, capability := range wanted {
		if name, ok := capability.(string); ok && m.bounding[name] {
			present = append(present, capability)
		}
	}
	return present
}

func (m machine) fitLimit(limit map[string]any) {
	name, _ := limit["type"].(string)
	most, known := m.rlimits[name]
	if !known {
		return
	}
	for _, field := range []string{"hard", "soft"} {
		number, ok := limit[field].(json.Number)
		if !ok {
			continue
		}
		if wanted, err := strconv.ParseUint(number.String(), 10, 64); err == nil && wanted > most {
			limit[field] = most
		}
	}
}
