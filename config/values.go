package config

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// problem is what is wrong with a value, without where.
type problem struct{ text, hint string }

// convert makes a Go value of type t of a value that TOML or JSON decoded.
func convert(t reflect.Type, v any) (any, *problem) {
	switch t {
	case textType:
		if s, ok := v.(string); ok {
			return checkText(s)
		}
	case listType:
		return convertList(v, textType, []string{})
	case numbersType:
		return convertList(v, numberType, []int{})
	case numberType:
		if n, ok := v.(int64); ok {
			if int64(int(n)) != n {
				return nil, &problem{fmt.Sprintf("%d is too large", n), shape(t)}
			}
			return int(n), nil
		}
	case durationType:
		if v == int64(0) { // the one number that needs no unit
			return time.Duration(0), nil
		}
		if s, ok := v.(string); ok {
			return parseDuration(s)
		}
	case sizeType:
		if n, ok := v.(int64); ok {
			v = strconv.FormatInt(n, 10)
		}
		if s, ok := v.(string); ok {
			return parseSize(s)
		}
	case modeType:
		if s, ok := v.(string); ok {
			return parseMode(s)
		}
	}
	return nil, wrongType(t, v)
}

func convertList[T any](v any, of reflect.Type, list []T) (any, *problem) {
	items, ok := v.([]any)
	if !ok {
		if tables, isTables := v.([]map[string]any); !isTables || len(tables) > 0 {
			return nil, wrongType(reflect.TypeOf(list), v)
		}
	}
	for i, item := range items {
		x, p := convert(of, item)
		if p != nil {
			p.text = fmt.Sprintf("element %d: %s", i+1, p.text)
			return nil, p
		}
		list = append(list, x.(T))
	}
	return list, nil
}

func wrongType(t reflect.Type, v any) *problem {
	return &problem{fmt.Sprintf("this is %s, not a %s", kindOf(v), typeName(t)), shape(t)}
}

// kindOf names the TOML type of a decoded value.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a text"
	case int64:
		return "a number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	default:
		return "a list"
	}
}

// checkText refuses what no setting can mean and no file could hold.
func checkText(s string) (any, *problem) {
	switch {
	case !utf8.ValidString(s):
		return nil, &problem{"this is not UTF-8", ""}
	case strings.ContainsRune(s, 0):
		return nil, &problem{"a NUL byte cannot be part of a setting", ""}
	}
	return s, nil
}

func parseDuration(s string) (any, *problem) {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		hint := shape(durationType)
		if n, isDays := strings.CutSuffix(s, "d"); isDays {
			if days, err := strconv.ParseInt(n, 10, 32); err == nil {
				hint = fmt.Sprintf(`write "%dh"`, days*24)
			}
		}
		return nil, &problem{fmt.Sprintf("%q is not a duration", s), hint}
	}
	if d < 0 {
		return nil, &problem{fmt.Sprintf("%q is negative", s), "write 0 or more"}
	}
	return d, nil
}

// formatDuration is time.Duration.String without "0m0s" and "0s" at the end.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeUnit gives the units of sizes, largest first.
func sizeUnit(i int) (name string, bytes int64) {
	names := [...]string{"TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB", "B"}
	sizes := [...]int64{1 << 40, 1e12, 1 << 30, 1e9, 1 << 20, 1e6, 1 << 10, 1e3, 1}
	return names[i], sizes[i]
}

const sizeUnits = 9

func parseSize(s string) (any, *problem) {
	bad := &problem{fmt.Sprintf("%q is not a size", s), shape(sizeType)}
	digits := strings.TrimRight(strings.TrimSpace(s), "BbKkMmGgTtIi ")
	unit := strings.TrimSpace(strings.TrimSpace(s)[len(digits):])
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return nil, bad
	}
	if n < 0 {
		return nil, &problem{fmt.Sprintf("%q is negative", s), "write 0 or more"}
	}
	if unit == "" {
		return n, nil
	}
	for i := range sizeUnits {
		if name, bytes := sizeUnit(i); strings.EqualFold(unit, name) {
			if n > math.MaxInt64/bytes {
				return nil, &problem{fmt.Sprintf("%q is too large", s), shape(sizeType)}
			}
			return n * bytes, nil
		}
	}
	return nil, bad
}

// formatSize uses the unit that gives the fewest digits.
func formatSize(n int64) string {
	if n == 0 {
		return "0"
	}
	best := ""
	for i := range sizeUnits {
		name, bytes := sizeUnit(i)
		if s := strconv.FormatInt(n/bytes, 10) + name; n%bytes == 0 && (best == "" || len(s) < len(best)) {
			best = s
		}
	}
	return best
}

func parseMode(s string) (any, *problem) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return nil, &problem{fmt.Sprintf("%q is not a file mode from 0 to 0777", s), shape(modeType)}
	}
	return fs.FileMode(n), nil
}

func formatMode(m fs.FileMode) string { return fmt.Sprintf("%04o", uint32(m.Perm())) }

// fromText makes of the text of a variable or flag what TOML would have
// decoded, for a setting of type t. Lists are comma-separated, or an array in
// TOML or JSON.
func fromText(t reflect.Type, s string) (any, *problem) {
	if !utf8.ValidString(s) {
		return nil, &problem{"this is not UTF-8", ""}
	}
	switch t {
	case numberType, sizeType:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n, nil
		}
		if t == numberType {
			return nil, &problem{fmt.Sprintf("%q is not a whole number", s), "write it in digits, such as 6"}
		}
	case listType, numbersType, balancerType:
		if strings.HasPrefix(strings.TrimSpace(s), "[") {
			return decodeArray(s)
		}
		return splitList(t, s)
	}
	return s, nil
}

func splitList(t reflect.Type, s string) (any, *problem) {
	list := []any{}
	if strings.TrimSpace(s) == "" {
		return list, nil
	}
	if t == balancerType {
		return nil, &problem{"this is not a list of tables", `write it as in TOML: [{kind = "local", path = "/etc/haproxy/haproxy.cfg"}]`}
	}
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		if t == listType {
			list = append(list, item)
			continue
		}
		n, err := strconv.ParseInt(item, 10, 64)
		if err != nil {
			return nil, &problem{fmt.Sprintf("%q is not a whole number", item), "write numbers with commas between them, such as 0,2"}
		}
		list = append(list, n)
	}
	return list, nil
}

func decodeArray(s string) (any, *problem) {
	if doc, err := decode("", "x = "+s+"\n", false); err == nil && len(doc) == 1 {
		return doc["x"], nil
	}
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil || dec.More() {
		return nil, &problem{"this is not a list in TOML or JSON", `write a,b or ["a", "b"]`}
	}
	return numbersAsTOML(v), nil
}

// numbersAsTOML turns JSON's numbers into the types that TOML decodes to.
func numbersAsTOML(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case []any:
		for i := range v {
			v[i] = numbersAsTOML(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbersAsTOML(v[k])
		}
	}
	return v
}
