package config

import (
	"slices"
	"strconv"
	"strings"
)

// position is where a key and its value stand in a document.
type position struct {
	line, column int    // of the key, from 1, in bytes
	value        string // the value as written; empty for a table
}

// positions finds the keys of a valid TOML document, by pathKey. The TOML
// library keeps positions to itself but for syntax errors, so the document is
// read a second time; being valid, it needs little more than skipping.
func positions(src string) map[string]position {
	s := scanner{src: src, line: 1, found: map[string]position{}, tables: map[string]int{}}
	for s.i < len(s.src) {
		before := s.i
		s.skipSpace()
		s.statement()
		if s.i == before {
			break // not TOML after all
		}
	}
	return s.found
}

// pathKey joins the parts of a key so that no two keys look alike; elements
// of arrays are the part "[N]".
func pathKey(parts ...string) string { return strings.Join(parts, "\x00") }

func element(n int) string { return "[" + strconv.Itoa(n) + "]" }

type scanner struct {
	src       string
	i         int
	line      int // of i, from 1
	lineStart int // offset of its first byte
	table     []string
	found     map[string]position
	tables    map[string]int // arrays of tables: elements so far
}

func (s *scanner) peek(text string) bool { return strings.HasPrefix(s.src[s.i:], text) }

// advance moves on by n bytes and counts lines.
func (s *scanner) advance(n int) {
	for end := min(s.i+n, len(s.src)); s.i < end; s.i++ {
		if s.src[s.i] == '\n' {
			s.line, s.lineStart = s.line+1, s.i+1
		}
	}
}

// skipSpace skips white space, newlines and comments.
func (s *scanner) skipSpace() {
	for s.i < len(s.src) {
		switch s.src[s.i] {
		case ' ', '\t', '\r', '\n':
			s.advance(1)
		case '#':
			n := strings.IndexByte(s.src[s.i:], '\n')
			if n < 0 {
				n = len(s.src) - s.i
			}
			s.advance(n)
		default:
			return
		}
	}
}

func (s *scanner) statement() {
	at := position{line: s.line, column: s.i - s.lineStart + 1}
	switch {
	case s.i >= len(s.src):
	case s.peek("[["):
		s.advance(2)
		path := s.resolve(s.key())
		s.advance(2)
		s.parents(path, at)
		n := s.tables[pathKey(path...)]
		s.tables[pathKey(path...)] = n + 1
		s.found[pathKey(path...)] = at
		s.table = append(path, element(n))
		s.found[pathKey(s.table...)] = at
	case s.peek("["):
		s.advance(1)
		s.table = s.resolve(s.key())
		s.advance(1)
		s.parents(s.table, at)
		s.found[pathKey(s.table...)] = at
	default:
		s.pair(s.table)
	}
}

// resolve puts the newest element after each part that is an array of tables,
// but not after the last one.
func (s *scanner) resolve(parts []string) []string {
	var path []string
	for i, part := range parts {
		path = append(path, part)
		if n := s.tables[pathKey(path...)]; n > 0 && i < len(parts)-1 {
			path = append(path, element(n-1))
		}
	}
	return path
}

// pair reads `key = value`.
func (s *scanner) pair(table []string) {
	at := position{line: s.line, column: s.i - s.lineStart + 1}
	parts := s.key()
	if len(parts) == 0 {
		s.advance(1)
		return
	}
	path := append(append([]string{}, table...), parts...)
	s.parents(path, at)
	s.advance(1) // =
	s.skipSpace()
	start := s.i
	s.value(path)
	at.value = strings.TrimSpace(s.src[start:s.i])
	s.found[pathKey(path...)] = at
}

// parents notes the tables that path makes without naming them: a.b = 1 and
// [a.b] make the table a.
func (s *scanner) parents(path []string, at position) {
	for n := 1; n < len(path); n++ {
		if key := pathKey(path[:n]...); s.found[key].line == 0 {
			s.found[key] = at
		}
	}
}

// key reads the parts of a key up to what follows it.
func (s *scanner) key() []string {
	var parts []string
	for s.i < len(s.src) {
		switch c := s.src[s.i]; {
		case c == ' ' || c == '\t' || c == '.':
			s.advance(1)
		case c == '"' || c == '\'':
			start := s.i
			s.text()
			parts = append(parts, unquote(s.src[start:s.i]))
		case strings.IndexByte("=]#\r\n", c) >= 0:
			return parts
		default:
			n := strings.IndexAny(s.src[s.i:], " \t.=]\"'#\r\n")
			if n < 0 {
				n = len(s.src) - s.i
			}
			parts = append(parts, s.src[s.i:s.i+n])
			s.advance(n)
		}
	}
	return parts
}

// unquote reads a quoted key. Keys with TOML's own escapes are left as they
// are: no setting has one, they are only unknown.
func unquote(s string) string {
	if s[0] == '"' {
		if text, err := strconv.Unquote(s); err == nil {
			return text
		}
	}
	return strings.Trim(s, s[:1])
}

func (s *scanner) value(path []string) {
	switch {
	case s.i >= len(s.src):
	case s.src[s.i] == '"', s.src[s.i] == '\'':
		s.text()
	case s.src[s.i] == '[':
		s.items(']', func(n int) {
			in := append(slices.Clip(path), element(n))
			s.found[pathKey(in...)] = position{line: s.line, column: s.i - s.lineStart + 1}
			s.value(in)
		})
	case s.src[s.i] == '{':
		s.items('}', func(int) { s.pair(path) })
	default:
		n := strings.IndexAny(s.src[s.i:], ",]}#\r\n")
		if n < 0 {
			n = len(s.src) - s.i
		}
		s.advance(n)
	}
}

// items reads what stands between brackets, one call for each.
func (s *scanner) items(end byte, item func(n int)) {
	s.advance(1)
	for n := 0; ; n++ {
		s.skipSpace()
		if s.i < len(s.src) && s.src[s.i] == ',' {
			s.advance(1)
			s.skipSpace()
		}
		if s.i >= len(s.src) {
			return
		}
		if s.src[s.i] == end {
			s.advance(1)
			return
		}
		before := s.i
		item(n)
		if s.i == before {
			return
		}
	}
}

// text skips a string of any of the four kinds.
func (s *scanner) text() {
	quote := s.src[s.i : s.i+1]
	escapes := quote == `"`
	if long := strings.Repeat(quote, 3); s.peek(long) {
		quote = long
	}
	s.advance(len(quote))
	for s.i < len(s.src) && !s.peek(quote) {
		if escapes && s.src[s.i] == '\\' {
			s.advance(1)
		}
		s.advance(1)
	}
	s.advance(len(quote))
	for len(quote) == 3 && s.peek(quote[:1]) { // up to two quotes may stand before the closing three
		s.advance(1)
	}
}
