package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// maxFile is more than any settings or attributes file needs.
const maxFile = 4 << 20

// readFile reads a settings file. It names commands that run as the agent's
// user, so nobody else may be able to write it; anyOwner leaves the owner out.
func readFile(path string, anyOwner bool) ([]byte, *Error) {
	if path == os.DevNull { // the usual way to say "no file"
		return nil, nil
	}
	// Not blocking: a named pipe would wait for a writer before it is refused.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, fileError(path, err)
	}
	if e := checkFile(path, info, anyOwner); e != nil {
		return nil, e
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fileError(path, err)
	}
	if len(data) > maxFile {
		return nil, &Error{File: path, Text: "the file has more than 4 MiB", Hint: "is it the right one?"}
	}
	return data, nil
}

func checkFile(path string, info fs.FileInfo, anyOwner bool) *Error {
	switch {
	case info.IsDir():
		return &Error{File: path, Text: "this is a directory, not a file", Hint: "name the file in it"}
	case !info.Mode().IsRegular():
		return &Error{File: path, Text: "this is not a regular file"}
	case info.Mode().Perm()&0o002 != 0:
		return &Error{
			File: path, Text: "anyone may write to this file, so it is not used", Hint: "chmod o-w " + path,
			Err: fs.ErrPermission,
		}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if anyOwner || !ok || st.Uid == 0 || int(st.Uid) == os.Geteuid() {
		return nil
	}
	return &Error{
		File: path, Text: fmt.Sprintf("this file belongs to user %d, who could choose the commands that run, so it is not used", st.Uid),
		Hint: fmt.Sprintf("chown %d %s", os.Geteuid(), path), Err: fs.ErrPermission,
	}
}

// fileError drops the operation and path that os puts into its errors.
func fileError(path string, err error) *Error {
	cause := err
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		cause = pe.Err
	}
	e := &Error{File: path, Text: cause.Error(), Err: err}
	if errors.Is(err, fs.ErrPermission) {
		e.Hint = "run as root or as the owner of the file"
	}
	return e
}

// stripBOM drops what the TOML library drops too, so that offsets agree.
func stripBOM(src string) string {
	for _, bom := range []string{"\xff\xfe", "\xfe\xff", "\xef\xbb\xbf"} {
		if rest, ok := strings.CutPrefix(src, bom); ok {
			return rest
		}
	}
	return src
}

// decode reads TOML. secret keeps the document's text out of errors.
func decode(path, src string, secret bool) (tree map[string]any, failed *Error) {
	defer func() {
		// The library panics over what it takes for a bug of its own. That is
		// no reason for an agent to end over a file.
		if p := recover(); p != nil {
			tree, failed = nil, &Error{File: path, Line: 1, Text: "broken TOML: " + excerpt(fmt.Sprint(p))}
			if secret {
				failed.Text = "broken TOML"
			}
		}
	}()
	if _, err := toml.Decode(src, &tree); err != nil {
		return nil, syntaxError(path, src, err, secret)
	}
	return tree, nil
}

// syntaxError is what the TOML library said, and the line.
func syntaxError(path, src string, err error, secret bool) *Error {
	pe := toml.ParseError{}
	if !errors.As(err, &pe) {
		return &Error{File: path, Line: 1, Text: "broken TOML", Err: err}
	}
	at := pe.Position
	at.Line = max(at.Line, 1) // the library counts some first lines as 0
	e := &Error{File: path, Line: at.Line, Column: at.Col}
	message := strings.TrimSuffix(pe.Message, ".")
	if secret && !strings.HasPrefix(message, "Key '") { // others can quote a value
		e.Text, e.Hint = "broken TOML", `write KEY = "value"`
		return e
	}
	e.Text = "broken TOML: " + excerpt(lowerFirst(message))
	if lines := strings.Split(src, "\n"); !secret && at.Line >= 1 && at.Line <= len(lines) {
		if line := excerpt(lines[at.Line-1]); line != "" {
			e.Text += ": " + line
		}
	}
	return e
}

// excerpt is a line as it can stand in a message: at most 80 characters, none
// of them control characters.
func excerpt(line string) string {
	line = strings.TrimSpace(strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(line, "?")))
	if r := []rune(line); len(r) > 80 {
		line = string(r[:79]) + "…"
	}
	return line
}

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if next, _ := utf8.DecodeRuneInString(s[n:]); unicode.IsUpper(next) { // an abbreviation
		return s
	}
	return string(unicode.ToLower(r)) + s[n:]
}
