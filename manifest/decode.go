package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// value is a JSON value and where it stands: validation comes after decoding,
// so that one pass over a file finds all that is wrong with it.
type value struct {
	kind       jsontext.Kind // '{' '[' '"' '0' 't' 'f' 'n'
	start, end int           // byte offsets in the file
	text       string        // of a string: unquoted; of any other scalar: as written
	members    []member      // of an object, in the order of the file, without duplicates
	elems      []*value      // of an array

	up   *value // nil: the manifest itself
	name string // member name or index in up
}

type member struct {
	name  string
	start int // of the name
	value *value
}

// pointer is the JSON pointer of v.
func (v *value) pointer() string {
	if v.up == nil {
		return ""
	}
	return v.up.pointer() + "/" + pointerEscaper.Replace(v.name)
}

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// decode reads the one JSON value in p.data; nil when the file is no JSON,
// which p.errs then tells. It is the only place that knows the JSON library.
func (p *parser) decode() *value {
	if !p.readable() {
		return nil
	}
	// Duplicates are allowed here because we find them ourselves, all of them.
	d := decoder{parser: p, dec: jsontext.NewDecoder(bytes.NewBuffer(p.data), jsontext.AllowDuplicateNames(true))}
	v, err := d.value(nil, "")
	if err != nil {
		p.syntax(err)
		return nil
	}
	rest := bytes.TrimLeft(p.data[v.end:], " \t\r\n")
	if len(rest) > 0 {
		p.add(len(p.data)-len(rest), "", "text after the end of the manifest", "a file holds one object; remove what follows it")
	}
	return v
}

// readable tells a file that is no text before any syntax error hides that.
func (p *parser) readable() bool {
	data := p.data
	whole := func(text, hint string) bool {
		p.errs = append(p.errs, &Error{File: p.file, Text: text, Hint: hint})
		return false
	}
	at := func(off int, text, hint string) bool {
		p.add(off, "", text, hint)
		return false
	}
	switch {
	case len(data) > MaxSize:
		return whole(fmt.Sprintf("the file is larger than %d KiB", MaxSize>>10), "a manifest describes one service; is this the right file?")
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return at(0, "the file begins with a byte order mark", "save it as UTF-8 without BOM")
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return at(0, "the file is UTF-16", "save it as UTF-8")
	case len(bytes.TrimLeft(data, " \t\r\n")) == 0:
		return whole("the file is empty", `write at least {"id": "`+p.base()+`"}`)
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return at(i, "NUL byte", "save the file as plain UTF-8 text")
	}
	if !utf8.Valid(data) {
		return at(invalidUTF8(data), "not UTF-8", "save the file as UTF-8")
	}
	return true
}

func invalidUTF8(data []byte) int {
	i := 0
	for i < len(data) {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return i
}

// maxDepth of nesting keeps hostile files from costing more than they weigh.
const maxDepth = 100

type decoder struct {
	*parser
	dec *jsontext.Decoder
}

func (d *decoder) value(up *value, name string) (*value, error) {
	v := &value{kind: d.dec.PeekKind(), up: up, name: name}
	var err error
	switch v.kind {
	case '{':
		err = d.object(v)
	case '[':
		err = d.array(v)
	default:
		err = d.scalar(v)
		d.noNUL(v)
	}
	v.end = int(d.dec.InputOffset())
	return v, err
}

func (d *decoder) scalar(v *value) error {
	raw, err := d.dec.ReadValue()
	if err != nil {
		return err
	}
	v.end = int(d.dec.InputOffset())
	v.start = v.end - len(raw)
	if v.kind != '"' {
		v.text = string(raw)
		return nil
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	v.text = string(text)
	return err
}

// noNUL refuses what neither environments nor files can hold.
func (d *decoder) noNUL(v *value) {
	if i := strings.IndexByte(v.text, 0); i >= 0 {
		d.wrongIn(v, i, `NUL (\u0000) in a string`, "remove it; neither environments nor files can hold it")
	}
}

func (d *decoder) object(v *value) error {
	if err := d.open(v); err != nil {
		return err
	}
	first := map[string]int{} // name → offset
	for d.dec.PeekKind() != '}' {
		key := &value{kind: d.dec.PeekKind(), up: v}
		if err := d.scalar(key); err != nil {
			return err
		}
		key.name = key.text
		d.noNUL(key)
		elem, err := d.value(v, key.text)
		if err != nil {
			return err
		}
		if off, twice := first[key.text]; twice {
			line, _ := position(d.data, off)
			d.add(key.start, elem.pointer(), fmt.Sprintf("duplicate member %q", key.text), fmt.Sprintf("it stands on line %d too; keep one", line))
			continue
		}
		first[key.text] = key.start
		v.members = append(v.members, member{key.text, key.start, elem})
	}
	return d.close()
}

func (d *decoder) array(v *value) error {
	if err := d.open(v); err != nil {
		return err
	}
	for d.dec.PeekKind() != ']' {
		elem, err := d.value(v, fmt.Sprint(len(v.elems)))
		if err != nil {
			return err
		}
		v.elems = append(v.elems, elem)
	}
	return d.close()
}

func (d *decoder) open(v *value) error {
	_, err := d.dec.ReadToken()
	v.start = int(d.dec.InputOffset()) - 1
	if err == nil && d.dec.StackDepth() > maxDepth {
		return &depthError{v.start}
	}
	return err
}

func (d *decoder) close() error {
	_, err := d.dec.ReadToken()
	return err
}

type depthError struct{ off int }

func (e *depthError) Error() string { return fmt.Sprintf("nested deeper than %d levels", maxDepth) }

// syntax reports the one place where the file stops being JSON.
func (p *parser) syntax(err error) {
	if deep, ok := errors.AsType[*depthError](err); ok {
		p.add(deep.off, "", deep.Error(), "")
		return
	}
	var se *jsontext.SyntacticError
	if !errors.As(err, &se) {
		p.add(0, "", err.Error(), "")
		return
	}
	off := int(se.ByteOffset)
	text, hint := p.explain(off, se.Err)
	p.add(off, string(se.JSONPointer), text, hint)
}

// explain says in words what people most often type that is not JSON.
func (p *parser) explain(off int, err error) (text, hint string) {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || off >= len(p.data) {
		return "the file ends in the middle of the manifest", "was it saved completely? each { [ \" needs its end"
	}
	rest := p.data[off:]
	after := bytes.TrimLeft(rest[1:], " \t\r\n")
	switch c := rest[0]; {
	case c == ',' && len(after) > 0 && (after[0] == '}' || after[0] == ']'):
		return "comma after the last entry", "remove the comma"
	case c == '/' || c == '#':
		return "JSON has no comments", "remove it"
	case c == '\'':
		return "single quotes", `write "…"`
	case c == '\n' || c == '\r' || c == '\t':
		return "line break or tab in a string", `write \n or \t, or close the string with "`
	case c == '\\' && bytes.HasPrefix(rest, []byte(`\u`)):
		return `a \u escape that is no character`, `write the character itself, or \uXXXX with four hex digits`
	case c == '\\':
		return "unknown escape in a string", `write \\ for one backslash`
	case strings.Contains(err.Error(), "expecting ','"):
		return fmt.Sprintf("%q where a comma or the end was expected", firstRune(rest)), "write a comma between two entries"
	case strings.Contains(err.Error(), "expecting ':'"):
		return fmt.Sprintf("%q where a colon was expected", firstRune(rest)), `write "name": value`
	}
	return fmt.Sprintf("unexpected %q", firstRune(rest)), `values are "text", numbers, true, false, [ ] and { }`
}

func firstRune(b []byte) string {
	_, n := utf8.DecodeRune(b)
	return string(b[:n])
}
