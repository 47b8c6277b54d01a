package manifest

import "strings"

// MissingError says which placeholders of a template have no value.
type MissingError struct {
	Parts []Part
}

func (e *MissingError) Error() string {
	names := make([]string, len(e.Parts))
	for i, p := range e.Parts {
		names[i] = p.String()
	}
	return "no value for " + strings.Join(names, ", ")
}

// Expand puts values in place of the placeholders, in one pass: a value that
// holds {KEY} stays as it is. lookup gets each placeholder as written and
// returns its text (of a list: the elements joined by Sep) and whether it is
// there; an empty text is there, so :- is only for a key that is absent.
//
// absent is true when an optional placeholder is not there: the variable is
// left out. A missing required one (error *MissingError, with all of them)
// comes before that. In the error case and when absent, text is "".
func (t Template) Expand(lookup func(Part) (string, bool)) (text string, absent bool, err error) {
	var few [16]string
	values := few[:0]
	var missing []Part
	size := 0
	for i := range t.Parts {
		s, ok := t.Parts[i].expand(lookup)
		switch {
		case ok:
		case t.Parts[i].Optional:
			absent = true
		default:
			missing = append(missing, t.Parts[i])
		}
		values = append(values, s)
		size += len(s)
	}
	switch {
	case missing != nil:
		return "", false, &MissingError{missing}
	case absent:
		return "", true, nil
	case len(values) == 1:
		return values[0], false, nil
	}
	var b strings.Builder
	b.Grow(size)
	for _, s := range values {
		b.WriteString(s)
	}
	return b.String(), false, nil
}

func (p *Part) expand(lookup func(Part) (string, bool)) (string, bool) {
	if p.literal() {
		return p.Literal, true
	}
	s, ok := lookup(*p)
	if !ok && p.HasDefault {
		return p.Default, true
	}
	if ok && p.Bracket && strings.Contains(s, ":") && s[0] != '[' {
		s = "[" + s + "]"
	}
	return s, ok
}

func (p *Part) literal() bool { return p.Builtin == "" && p.EnvVar == "" && p.Key == "" }

// String is the part as one writes it in a manifest.
func (p Part) String() string {
	switch {
	case p.literal():
		return strings.NewReplacer("{", "{{", "}", "}}").Replace(p.Literal)
	case p.Builtin != "":
		return "{" + p.Builtin + "}"
	case p.EnvVar != "":
		return "{" + p.EnvVar + "}"
	}
	s := p.Key
	if p.Service != "" {
		s = p.Service + "/" + s
	}
	switch {
	case p.List && p.Sep != ",":
		s += "[" + p.Sep + "]"
	case p.List:
		s += "[]"
	}
	switch {
	case p.Optional:
		s += "?"
	case p.HasDefault:
		s += ":-" + p.Default
	}
	return "{" + s + "}"
}
