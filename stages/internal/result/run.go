package result

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// The exit codes of every stage program.
const (
	ExitPass  = 0 // it ran and the verdict passes
	ExitFail  = 1 // it ran and the verdict does not pass
	ExitInput = 2 // the input or configuration is wrong
	ExitWorld = 3 // the world failed: network, registry, cluster, disk
)

// InputError marks an error as the caller's to mend: exit 2 instead of 3.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }
func (e *InputError) Unwrap() error { return e.Err }

// Input wraps err as an InputError; nil stays nil.
func Input(err error) error {
	if err == nil {
		return nil
	}
	return &InputError{err}
}

// Inputf is fmt.Errorf for input errors.
func Inputf(format string, args ...any) error { return &InputError{fmt.Errorf(format, args...)} }

// IsInput reports whether err is the caller's to mend.
func IsInput(err error) bool { _, ok := errors.AsType[*InputError](err); return ok }

// Stage is what a program's main hands to Main.
type Stage struct {
	// Name is the stage's name as it appears in result.json and in front of errors.
	Name string
	// Usage is one line for -help.
	Usage string
	// Flags registers the stage's own flags; -out is there already.
	Flags func(*flag.FlagSet)
	// Run does the work and writes native formats into out. A result may accompany an error.
	Run func(ctx context.Context, out string) (*Result, error)
}

// Main runs s with the arguments after the program's name and returns the exit code. It writes result.json in every case where the
// output directory is known and writable: also when the input is wrong or the world failed.
func Main(s Stage, args []string, stderr io.Writer) int {
	// Libraries (Trivy's among them) install their own default logger on import; ours must win or errors vanish.
	slog.SetDefault(slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	fs := flag.NewFlagSet(s.Name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	out := fs.String("out", "", "`directory` for result.json and the files beside it")
	fs.Usage = func() {
		fmt.Fprintf(stderr, "usage: %s -out DIR [flags]\n%s\n", s.Name, s.Usage)
		fs.PrintDefaults()
	}
	if s.Flags != nil {
		s.Flags(fs)
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return ExitPass
		}
		return ExitInput
	}
	if *out == "" {
		fmt.Fprintf(stderr, "%s: flag -out is missing: give the directory for the results\n", s.Name)
		return ExitInput
	}
	var r *Result
	var err error
	if fs.NArg() > 0 {
		err = Inputf("unexpected argument %q", fs.Arg(0))
	} else {
		r, err = s.Run(ctx, *out)
	}
	code := ExitPass
	switch {
	case err != nil:
		code = ExitWorld
		if IsInput(err) {
			code = ExitInput
		}
		if r == nil {
			r = &Result{Summary: err.Error()}
		}
		r.Verdict, r.Error = Inconclusive, err.Error()
	case r == nil:
		code, err = ExitWorld, errors.New("ended without a result")
		r = &Result{Verdict: Inconclusive, Summary: err.Error(), Error: err.Error()}
	case !r.Verdict.OK():
		code = ExitFail
	}
	if r.Stage == "" {
		r.Stage = s.Name
	}
	if werr := r.Write(*out); werr != nil {
		fmt.Fprintf(stderr, "%s: writing %s: %v\n", s.Name, FileName, werr)
		return ExitWorld
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", s.Name, err)
	} else {
		fmt.Fprintf(stderr, "%s: %s: %s\n", s.Name, r.Verdict, r.Summary)
	}
	return code
}
