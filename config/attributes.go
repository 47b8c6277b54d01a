package config

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Attributes are static fallback values: by key, and by region and key.
type Attributes struct {
	General map[string]string
	Regions map[string]map[string]string
}

// LoadAttributes reads attributes files: KEY = "value" at the top and below
// [regions.NAME]. Numbers and booleans count as their text. Of two files that
// name a key the later one counts.
//
// The error is Errors with every problem. Files without a problem are in the
// result all the same; a file that does not exist counts as empty and is
// reported as fs.ErrNotExist, so a caller to whom that is fine can tell with
// OnlyMissing.
func LoadAttributes(files []string) (Attributes, error) {
	all := Attributes{General: map[string]string{}, Regions: map[string]map[string]string{}}
	var errs Errors
	for _, file := range files {
		data, err := readFile(file, true)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		one, problems := ParseAttributes(file, data)
		if problems != nil {
			errs = append(errs, problems...)
			continue
		}
		maps.Copy(all.General, one.General)
		for region, values := range one.Regions {
			if all.Regions[region] == nil {
				all.Regions[region] = map[string]string{}
			}
			maps.Copy(all.Regions[region], values)
		}
	}
	return all, errs.err()
}

// ParseAttributes reads one attributes file; file is its name in errors,
// which never show a value.
func ParseAttributes(file string, data []byte) (Attributes, Errors) {
	src := stripBOM(string(data))
	tree, err := decode(file, src, true)
	if err != nil {
		return Attributes{}, Errors{err}
	}
	p := attributesParser{file: file, found: positions(src)}
	a := Attributes{General: map[string]string{}, Regions: map[string]map[string]string{}}
	regions, hasRegions := tree["regions"]
	delete(tree, "regions")
	p.values(a.General, tree, nil)
	if hasRegions {
		p.regions(a.Regions, regions)
	}
	slices.SortStableFunc(p.errs, func(x, y *Error) int { return cmp.Or(x.Line-y.Line, x.Column-y.Column) })
	return a, p.errs
}

type attributesParser struct {
	file  string
	found map[string]position
	errs  Errors
}

func (p *attributesParser) fail(path []string, text, hint string) {
	at := p.found[pathKey(path...)]
	p.errs = append(p.errs, &Error{
		File: p.file, Line: at.line, Column: at.column, Name: strings.Join(path, "."), Text: text, Hint: hint,
	})
}

func (p *attributesParser) regions(into map[string]map[string]string, v any) {
	const hint = `write [regions.us-east] and KEY = "value" below it`
	table, ok := v.(map[string]any)
	if !ok {
		p.fail([]string{"regions"}, "this is "+kindOf(v)+", not a table", hint)
		return
	}
	for region, v := range table {
		path := []string{"regions", region}
		values, ok := v.(map[string]any)
		switch {
		case !ok:
			p.fail(path, "this is "+kindOf(v)+", not the table of a region", hint)
		case region == "" || len(region) > maxName || strings.ContainsFunc(region, isControl):
			p.fail(path, "this is not the name of a region", hint)
		default:
			into[region] = map[string]string{}
			p.values(into[region], values, path)
		}
	}
}

func (p *attributesParser) values(into map[string]string, table map[string]any, prefix []string) {
	for key, v := range table {
		path := append(slices.Clip(prefix), key)
		if !isKey(key) {
			p.badKey(path, key, v)
			continue
		}
		text, problem, hint := p.text(path, key, v)
		switch {
		case problem != "":
			p.fail(path, problem, hint)
		case strings.ContainsAny(text, "\n\x00"):
			p.fail(path, "a value cannot have a newline or NUL byte", "write it on one line")
		default:
			into[key] = text
		}
	}
}

func (p *attributesParser) badKey(path []string, key string, v any) {
	upper := strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(key))
	hint := "keys are A-Z, 0-9 and _, and begin with a letter"
	if _, isTable := v.(map[string]any); isTable && len(path) == 1 {
		hint = fmt.Sprintf("write [regions.%s] for the values of a region", key)
	} else if isKey(upper) {
		hint = "write " + upper
	}
	p.fail(path, "this is not a key", hint)
}

// text is a value as text, or what is wrong with it.
func (p *attributesParser) text(path []string, key string, v any) (text, problem, hint string) {
	switch v := v.(type) {
	case string:
		return v, "", ""
	case bool:
		return strconv.FormatBool(v), "", ""
	case int64:
		return strconv.FormatInt(v, 10), "", ""
	case float64:
		if !math.IsInf(v, 0) && !math.IsNaN(v) { // as written: 1.50 stays 1.50
			return strings.ReplaceAll(p.found[pathKey(path...)].value, "_", ""), "", ""
		}
	}
	return "", "this is " + kindOf(v) + ", not a text", fmt.Sprintf(`write %s = "value"`, key)
}

// isKey: [A-Z][A-Z0-9_]*.
func isKey(s string) bool {
	for i, c := range []byte(s) {
		if !(c >= 'A' && c <= 'Z' || i > 0 && (c >= '0' && c <= '9' || c == '_')) {
			return false
		}
	}
	return s != ""
}

// OnlyMissing says whether all that LoadAttributes reported is files that do
// not exist.
func OnlyMissing(err error) bool {
	es, ok := err.(Errors) //nolint:errorlint // as LoadAttributes returns it
	if !ok {
		return false
	}
	return !slices.ContainsFunc(es, func(e *Error) bool { return !isMissing(e) })
}
