package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
)

// maxOutput bounds what a command may print before the rest is dropped, in bytes.
const (
	maxOutput = 64 << 20
	maxStderr = 1 << 20
)

// commandError is a go command that ended with an exit code.
type commandError struct {
	platform config.Platform
	args     []string
	stderr   string
}

func (e *commandError) Error() string {
	return fmt.Sprintf("go %s (%s): %s", e.args[0], e.platform, strings.TrimSpace(e.stderr))
}

func asCommandError(err error) (*commandError, bool) { return errors.AsType[*commandError](err) }

// goCommand runs the go command for a platform in the component's directory and returns its standard output.
func (b *builder) goCommand(ctx context.Context, p config.Platform, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, b.o.Go, args...)
	cmd.Dir = b.dir
	cmd.Env = append(append([]string(nil), b.o.Env...), environment(p)...)
	cmd.WaitDelay = 5 * time.Second
	stdout, stderr := &limited{max: maxOutput}, &limited{max: maxStderr}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, &commandError{platform: p, args: args, stderr: stderr.String()}
	}
	if err != nil {
		return nil, err
	}
	if stdout.dropped {
		return nil, fmt.Errorf("go %s printed more than %d bytes", args[0], maxOutput)
	}
	return stdout.Bytes(), nil
}

// environment is what a build may not inherit: each variable that changes the output is set, or emptied. GOFLAGS is set to something
// harmless because an empty one would let a file of the user's decide. Without -mod there, a vendor directory is used when the module has
// one, and go.mod is never changed.
func environment(p config.Platform) []string {
	env := []string{
		"CGO_ENABLED=0", "GOOS=" + p.OS, "GOARCH=" + p.Arch, "GOFLAGS=-buildvcs=false", "GO111MODULE=on", "GOEXPERIMENT=", "GOFIPS140=off",
		"GOAMD64=v1", "GOARM64=v8.0", "GOARM=7", "GO386=sse2", "GOMIPS=hardfloat", "GOMIPS64=hardfloat", "GOPPC64=power8", "GORISCV64=rva20u64",
		"GODEBUG=", "LC_ALL=C",
		// The compiler's processes are short: collecting garbage less often spares a sixth of the time, and changes no byte of the output.
		"GOGC=400",
	}
	switch {
	case p.Arch == "amd64" && p.Variant != "":
		env = append(env, "GOAMD64="+p.Variant)
	case p.Arch == "arm":
		env = append(env, "GOARM="+strings.TrimPrefix(p.Variant, "v"))
	}
	return env
}

// limited is a buffer that forgets what is beyond its limit.
type limited struct {
	bytes.Buffer
	max     int
	dropped bool
}

func (l *limited) Write(p []byte) (int, error) {
	n := len(p)
	if room := l.max - l.Len(); len(p) > room {
		p, l.dropped = p[:max(0, room)], true
	}
	l.Buffer.Write(p)
	return n, nil
}
