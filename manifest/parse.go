package manifest

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxSize is the largest manifest that is read, in bytes.
const MaxSize = 1 << 20

// maxErrors of one file are told; who has more begins with these.
const maxErrors = 100

// Parse reads one manifest. file names it in errors, and its base name is what
// id has to be, unless file is "" or "-". The error is Errors: all that is
// wrong, in the order of the file; of broken JSON only the first place.
func Parse(file string, data []byte) (*Manifest, error) {
	p := parser{file: file, data: data}
	p.m = &Manifest{File: file, Command: Command{Node: true}, Weight: 100, Balance: "roundrobin"}
	if root := p.decode(); root != nil {
		p.manifest(root)
	}
	if len(p.errs) > 0 {
		return nil, p.errs.sorted()
	}
	return p.m, nil
}

type parser struct {
	file string
	data []byte
	m    *Manifest
	errs Errors
	have map[string]*value // the known members that are there
}

// add reports an error at a byte of the file.
func (p *parser) add(off int, pointer, text, hint string) {
	if len(p.errs) >= maxErrors {
		return
	}
	line, column := position(p.data, off)
	p.errs = append(p.errs, &Error{File: p.file, Line: line, Column: column, Pointer: pointer, Text: text, Hint: hint})
}

// wrong reports an error of v.
func (p *parser) wrong(v *value, text, hint string) { p.add(v.start, v.pointer(), text, hint) }

// wrongIn reports an error at byte i of the text of the string v.
func (p *parser) wrongIn(v *value, i int, text, hint string) {
	p.add(v.start+rawOffset(p.data[v.start:v.end], i), v.pointer(), text, hint)
}

func (p *parser) note(format string, args ...any) {
	p.m.Notes = append(p.m.Notes, fmt.Sprintf(format, args...))
}

// rawOffset finds in a quoted JSON string where byte i of its text came from.
func rawOffset(raw []byte, i int) int {
	at := 1
	for i > 0 && at < len(raw)-1 {
		switch {
		case raw[at] != '\\':
			at, i = at+1, i-1
		case raw[at+1] != 'u':
			at, i = at+2, i-1
		default:
			n, _ := strconv.ParseUint(string(raw[at+2:at+6]), 16, 16)
			if utf16.IsSurrogate(rune(n)) { // a pair: 12 bytes for one character of 4
				at, i = at+12, i-4
			} else {
				at, i = at+6, i-utf8.RuneLen(rune(n))
			}
		}
	}
	return at
}

// base is the file's name without .json; "" when there is no file.
func (p *parser) base() string {
	if p.file == "" || p.file == "-" {
		return ""
	}
	return strings.TrimSuffix(filepath.Base(p.file), ".json")
}

// field is a member that a manifest may have.
type field struct {
	name  string
	kinds string // of JSON value, by first letter as in package jsontext
	write string // an example, for hints
	parse func(*parser, *value)
}

// fields are in the order in which they are read: environment and local_port
// come before the templates that name them.
var fields = []field{
	{"$schema", `"`, `the address of the schema, or leave it out`, func(*parser, *value) {}}, // for editors
	{"id", `"`, `"app-www"`, (*parser).id},
	{"command", `tf"[`, `true, false, "a shell command" or ["argv", "…"]`, (*parser).command},
	{"run_list", `[`, `["nginx::default"]`, (*parser).runList},
	{"environment", `{`, `{"ENV": "production", "PORT": 8080}`, (*parser).environment},
	{"local_port", `0`, `8080, without quotes`, (*parser).localPort},
	{"requires", `{`, `{"DATABASE_URL": "{PRIMARY_DATABASE_URL}"}`, (*parser).requires},
	{"provides", `{`, `{"WWW_URL": "http://{HOST}:{PORT}/"}`, (*parser).provides},
	{"public", `tf`, `true or false`, (*parser).public},
	{"hosts", `[`, `["www.example.com"]`, (*parser).hosts},
	{"federation", `"`, `"seatgeek"`, (*parser).federation},
	{"check", `{`, `{"http": "http://127.0.0.1:{PORT}/health"}`, (*parser).check},
	{"priority", `0`, `10, without quotes`, (*parser).priority},
	{"weight", `0`, `100, without quotes`, (*parser).weight},
	{"balance", `"`, `"roundrobin", "leastconn" or "hash"`, (*parser).balance},
	{"exclusive", `[`, `["WWW_URL"]`, (*parser).exclusive},
	{"binding", `"`, `"strict" or "relaxed"`, (*parser).binding},
	{"user", `"`, `"www-data"`, func(p *parser, v *value) { p.m.User = p.account(v) }},
	{"group", `"`, `"www-data"`, func(p *parser, v *value) { p.m.Group = p.account(v) }},
}

func (p *parser) manifest(root *value) {
	if root.kind != '{' {
		p.wrong(root, "the manifest is "+kindName(root.kind)+", not an object", `write {"id": "app-www", …}`)
		return
	}
	p.have = map[string]*value{}
	for _, m := range root.members {
		if slices.ContainsFunc(fields, func(f field) bool { return f.name == m.name }) {
			p.have[m.name] = m.value
		} else {
			p.unknown(m)
		}
	}
	if p.have["id"] == nil {
		p.wrong(root, "no id", `write "id": "`+p.exampleID()+`"`)
	}
	for _, f := range fields {
		if v := p.have[f.name]; v != nil && p.is(v, f.kinds, "write "+f.write) {
			f.parse(p, v)
		}
	}
	p.together()
}

func (p *parser) exampleID() string {
	if b := p.base(); idPattern(b) {
		return b
	}
	return "app-www"
}

// unknown members are somebody else's, unless they look like one of ours.
func (p *parser) unknown(m member) {
	if near := nearMember(m.name); near != "" {
		p.add(m.start, m.value.pointer(), fmt.Sprintf("unknown member %q", m.name), fmt.Sprintf("write %q", near))
		return
	}
	if p.m.Extra == nil {
		p.m.Extra = map[string][]byte{}
	}
	p.m.Extra[m.name] = slices.Clone(p.data[m.value.start:m.value.end])
	p.note("%q is no member that listener knows; it is passed on in node.json", m.name)
}

// is reports whether v has one of the kinds, and says so if not.
func (p *parser) is(v *value, kinds, hint string) bool {
	if strings.IndexByte(kinds, byte(v.kind)) >= 0 {
		return true
	}
	if v.kind == 'n' {
		hint += ", or leave it out"
	}
	p.wrong(v, kindName(v.kind)+" where "+kindNames(kinds)+" belongs", hint)
	return false
}

func kindName[K ~byte](k K) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "a boolean"
	}
	return "null"
}

func kindNames(kinds string) string {
	var names []string
	for i := range len(kinds) {
		names = append(names, kindName(kinds[i]))
	}
	return strings.Join(slices.Compact(names), " or ")
}

// together checks what concerns more than one member.
func (p *parser) together() {
	if env, req := p.have["environment"], p.have["requires"]; env != nil && req != nil {
		for _, m := range req.members {
			if slices.ContainsFunc(env.members, func(e member) bool { return e.name == m.name }) {
				p.add(m.start, m.value.pointer(), fmt.Sprintf("%s is in environment too", m.name), "a variable comes from one place; remove one of the two")
			}
		}
	}
	p.selfRequires()
}

// selfRequires finds what would wait for itself: the service's provides count
// only once it is ready, and it is not ready without them.
func (p *parser) selfRequires() {
	own := p.have["provides"]
	for _, m := range membersOf(p.have["requires"]) {
		for _, part := range p.m.Requires[m.name].Parts {
			if part.Key == "" || part.Service != "" && part.Service != p.m.ID {
				continue
			}
			offers := slices.ContainsFunc(membersOf(own), func(o member) bool { return o.name == part.Key })
			switch {
			case !offers && part.Service != "":
				p.wrong(m.value, part.String()+" names this very service, which does not provide "+part.Key, "remove the service's name, or add the key to provides")
			case offers && !part.Optional && !part.HasDefault && !p.m.Relaxed:
				p.wrong(m.value, part.String()+" is provided by this very service, which would wait for itself", "write "+part.optional()+", or require another key")
			}
		}
	}
}

func membersOf(v *value) []member {
	if v == nil {
		return nil
	}
	return v.members
}

// optional is the same placeholder, optional.
func (p Part) optional() string {
	p.Optional = true
	return p.String()
}
