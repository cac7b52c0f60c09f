package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// patience is how long a process may take to end.
const patience = 20 * time.Second

// process is one that up left running.
type process struct {
	PID int `json:"pid"`
	// Started is the kernel's start time of the process: a number may be another process's by now.
	Started string `json:"started"`
	Address string `json:"address"`
	// Inputs is the hash of what it was started from.
	Inputs string `json:"inputs,omitempty"`
	// Listener is where the engine listens beside its socket.
	Listener listener `json:"listener,omitzero"`
}

func (p *process) alive() bool {
	started, err := startTime(p.PID)
	return err == nil && started == p.Started
}

// startTime is field 22 of /proc/PID/stat, in clock ticks since boot.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 || fields[0] == "Z" {
		return "", errors.New("the process has ended")
	}
	return fields[19], nil
}

func (m *machine) readProcess(name string) (*process, error) {
	data, err := os.ReadFile(m.path("run", name+".json"))
	if err != nil {
		return nil, err
	}
	var p process
	return &p, json.Unmarshal(data, &p)
}

// start runs a program in the background, with its output in a log, until it is ready.
func (m *machine) start(name string, p process, cmd *exec.Cmd, ready func() bool, patience time.Duration) error {
	log, err := os.OpenFile(m.path("log", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	if err := cmd.Start(); err != nil {
		return err
	}
	p.PID = cmd.Process.Pid
	if p.Started, err = startTime(p.PID); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := writeFile(m.path("run", name+".json"), data); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; {
		select {
		case err := <-ended:
			return fmt.Errorf("it ended at once (%w): ci/local/run logs %s", err, name)
		case <-time.After(100 * time.Millisecond):
		}
		if ready() {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer after %s: ci/local/run logs %s", patience, name)
		}
	}
}

// stop ends what up started, if it is still that. What does not end by itself within the time that it is given is killed.
func (m *machine) stop(name string, patience time.Duration) error {
	p, err := m.readProcess(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && p.alive() {
		if err := syscall.Kill(p.PID, syscall.SIGTERM); err != nil {
			return err
		}
		for deadline := time.Now().Add(patience); p.alive(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
					return err
				}
				break
			}
		}
	}
	return os.Remove(m.path("run", name+".json"))
}

// writeFile writes the whole file or nothing.
func writeFile(path string, data []byte) error {
	tmp := path + ".part"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
