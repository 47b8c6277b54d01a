package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/store"
	"github.com/spf13/cobra"
)

// maxInput is the largest input that put reads; a request is as large.
const maxInput = 1 << 20

type putFlags struct {
	region, file string
	version      uint64
	create       bool
}

func (a *app) putCmd() *cobra.Command {
	var f putFlags
	c := &cobra.Command{
		Use:   "put KEY VALUE | put KEY - | put --from-file FILE",
		Short: "set a value, or several in one transaction",
		Long: `Set KEY to VALUE, or to what standard input has (-). With --from-file, set all
KEY=value lines of FILE (- is standard input) in one transaction: all or none;
empty lines and lines that begin with # are skipped.

One newline at the end of an input is stripped; other newlines and NUL are
refused. The empty value is a value. Exits 4 when --if-version or --create does
not hold.`,
		Example: `  listener put PRIMARY_DATABASE_URL postgres://db1/app
  pass show db/url | listener put PRIMARY_DATABASE_URL -
  listener put API_URL http://10.0.0.7/ --region us-east --if-version 42
  listener put --from-file values.env`,
		Args: func(_ *cobra.Command, args []string) error { return f.args(args) },
		ValidArgsFunction: func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			return a.completeKeys(c, args, prefix)
		},
		RunE: func(c *cobra.Command, args []string) error {
			ops, err := a.ops(args, f)
			if err != nil {
				return err
			}
			return a.withValues(true, func(v values) error {
				rev, err := v.Commit(c.Context(), f.region, ops)
				if err != nil {
					return conflictHint(err, f)
				}
				return a.written(ops, rev)
			})
		},
	}
	region(c, &f.region)
	c.Flags().StringVar(&f.file, "from-file", "", "`FILE` of KEY=value lines; - is standard input")
	c.Flags().Uint64Var(&f.version, "if-version", 0, "only if this is the present version `N`")
	c.Flags().BoolVar(&f.create, "create", false, "only if the key is not there")
	return c
}

func (f *putFlags) args(args []string) error {
	switch {
	case f.version != 0 && (f.create || f.file != ""):
		return errors.New("--if-version goes neither with --create nor with --from-file")
	case f.file != "" && len(args) > 0:
		return errors.New("with --from-file there is no KEY and VALUE")
	case f.file == "" && len(args) != 2:
		return hinted(fmt.Errorf("put takes KEY and VALUE, not %d arguments", len(args)), "quote a value that has spaces; - reads standard input")
	}
	return nil
}

func (a *app) ops(args []string, f putFlags) ([]api.ValueOp, error) {
	if f.file != "" {
		return a.fileOps(f)
	}
	value := args[1]
	if value == "-" {
		data, err := readInput(a.in, "standard input")
		if err != nil {
			return nil, err
		}
		value = string(data)
	}
	return []api.ValueOp{{Key: args[0], Value: stripNewline(value), Version: f.version, Create: f.create}}, nil
}

func (a *app) fileOps(f putFlags) ([]api.ValueOp, error) {
	in, name := a.in, "standard input"
	if f.file != "-" {
		file, err := os.Open(f.file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		in, name = file, f.file
	}
	data, err := readInput(in, name)
	if err != nil {
		return nil, err
	}
	var ops []api.ValueOp
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text := stripNewline(string(line))
		if strings.TrimSpace(text) == "" || strings.HasPrefix(text, "#") {
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, failed(exitUsage, "write KEY=value on each line", "%s:%d: there is no =", name, n)
		}
		if err := api.CheckKey(key); err != nil {
			return nil, hinted(fmt.Errorf("%s:%d: %w", name, n, err), "write KEY=value, without spaces around the key")
		}
		ops = append(ops, api.ValueOp{Key: key, Value: value, Create: f.create})
	}
	if len(ops) == 0 {
		return nil, failed(exitUsage, "write KEY=value on each line", "%s: there is no value in it", name)
	}
	return ops, nil
}

// written says what became of ops.
func (a *app) written(ops []api.ValueOp, rev uint64) error {
	if a.json() {
		return a.printJSON(api.Committed{Version: rev})
	}
	for _, op := range ops {
		if err := a.printf("%s: version %d\n", op.Key, rev); err != nil {
			return err
		}
	}
	return nil
}

func conflictHint(err error, f putFlags) error {
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	if f.create {
		return hinted(err, "it is there already: leave --create away to overwrite it")
	}
	return hinted(err, "somebody else wrote it: see `listener get KEY -o json`")
}

func readInput(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxInput {
		return nil, failed(exitUsage, "", "%s is larger than 1 MiB", name)
	}
	return data, nil
}

// stripNewline takes one newline off the end, of either kind.
func stripNewline(s string) string {
	if t, ok := strings.CutSuffix(s, "\n"); ok {
		return strings.TrimSuffix(t, "\r")
	}
	return s
}
