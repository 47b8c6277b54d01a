package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/store"
	"github.com/spf13/cobra"
)

const (
	maxInput = 1 << 20  // the largest value that put reads; a request is as large
	maxFile  = 64 << 20 // the largest file of values
	maxBatch = 1 << 18  // bytes of keys and values after which a file goes on in another transaction
)

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
more than 128 lines, or 256 KiB, take several, in the order of the lines. Empty
lines and lines that begin with # are skipped.

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
				return a.put(c.Context(), v, ops, f)
			})
		},
	}
	region(c, &f.region)
	c.Flags().StringVar(&f.file, "from-file", "", "`FILE` of KEY=value lines; - is standard input")
	c.Flags().Uint64Var(&f.version, "if-version", 0, "only if this is the present version `N`")
	c.Flags().BoolVar(&f.create, "create", false, "only if the key is not there")
	return c
}

// put writes ops in as few transactions as a store takes.
func (a *app) put(ctx context.Context, v values, ops []api.ValueOp, f putFlags) error {
	versions := make([]uint64, 0, len(ops))
	for len(versions) < len(ops) {
		done := len(versions)
		next := batch(ops[done:])
		rev, err := v.Commit(ctx, f.region, next)
		if err != nil {
			err = conflictHint(err, f)
			if done > 0 {
				err = errors.Join(err, fmt.Errorf("the first %d of %d values are written, up to %s", done, len(ops), ops[done-1].Key))
			}
			return err
		}
		for range next {
			versions = append(versions, rev)
		}
	}
	return a.written(ops, versions)
}

// batch is the part of ops that goes into the next transaction.
func batch(ops []api.ValueOp) []api.ValueOp {
	size := 0
	for i, op := range ops {
		size += len(op.Key) + len(op.Value)
		if i == store.MaxOps || i > 0 && size > maxBatch {
			return ops[:i]
		}
	}
	return ops
}

func (f *putFlags) args(args []string) error {
	switch {
	case f.version != 0 && (f.create || f.file != ""):
		return errors.New("--if-version goes neither with --create nor with --from-file")
	case f.file != "" && len(args) > 0:
		return errors.New("with --from-file there is no KEY and VALUE")
	case f.file == "" && len(args) != 2:
		return hinted(errors.New("put takes KEY and VALUE"), "quote a value that has spaces; - reads standard input")
	}
	return nil
}

func (a *app) ops(args []string, f putFlags) ([]api.ValueOp, error) {
	if f.file != "" {
		return a.fileOps(f)
	}
	value := args[1]
	if value == "-" {
		data, err := readInput(a.in, "standard input", maxInput)
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
	data, err := readInput(in, name, maxFile)
	if err != nil {
		return nil, err
	}
	lines := map[string]int{}
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
		if first := lines[key]; first > 0 {
			return nil, failed(exitUsage, "keep one of the two lines", "%s:%d: %s is given twice, first in line %d", name, n, key, first)
		}
		lines[key] = n
		if err := api.CheckValue(key, []byte(value)); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		ops = append(ops, api.ValueOp{Key: key, Value: value, Create: f.create})
	}
	if len(ops) == 0 {
		return nil, failed(exitUsage, "write KEY=value on each line", "%s: there is no value in it", name)
	}
	return ops, nil
}

// written says what became of ops.
func (a *app) written(ops []api.ValueOp, versions []uint64) error {
	if a.json() {
		return a.printJSON(api.Committed{Version: versions[len(versions)-1]})
	}
	for i, op := range ops {
		if err := a.printf("%s: version %d\n", op.Key, versions[i]); err != nil {
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

func readInput(r io.Reader, name string, most int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > most {
		return nil, failed(exitUsage, "", "%s is larger than %d MiB", name, most>>20)
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
