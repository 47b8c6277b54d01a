package config

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Print writes the effective settings as TOML that Load reads back to the
// same Config, each with its origin as a comment, in the order of the
// documentation.
func (c *Config) Print(w io.Writer) error {
	b := bufio.NewWriter(w)
	v := reflect.ValueOf(c).Elem()
	table := ""
	for _, f := range settings().fields {
		if f.typ == balancerType {
			c.printBalancers(b)
			continue
		}
		in, name := splitName(f.name)
		if in != table {
			table = in
			fmt.Fprintf(b, "\n[%s]\n", table)
		}
		fmt.Fprintf(b, "%s = %s  # %s\n", name, literal(v.FieldByIndex(f.index).Interface()), comment(c.Origin(f.name)))
		if f.name == lastTopLevel && len(c.Balancers) == 0 {
			// Without a table it can only stand before the first table.
			fmt.Fprintf(b, "%s = []  # %s\n", balancerName, comment(c.Origin(balancerName)))
		}
	}
	return b.Flush()
}

// lastTopLevel is the last setting before the first table.
const lastTopLevel = "run_dir"

func (c *Config) printBalancers(b *bufio.Writer) {
	for i, balancer := range c.Balancers {
		name := fmt.Sprintf("%s[%d]", balancerName, i)
		fmt.Fprintf(b, "\n[[%s]]  # %s\n", balancerName, comment(c.Origin(name)))
		v := reflect.ValueOf(balancer)
		for _, f := range balancerSettings().fields {
			fmt.Fprintf(b, "%s = %s  # %s\n", f.name, literal(v.FieldByIndex(f.index).Interface()), comment(c.Origin(name+"."+f.name)))
		}
	}
}

// splitName splits store.etcd.endpoints into store.etcd and endpoints.
func splitName(name string) (table, last string) {
	i := strings.LastIndexByte(name, '.')
	return name[:max(i, 0)], name[i+1:]
}

// comment is text as it can stand in a TOML comment.
func comment(s string) string { return strings.ToValidUTF8(s, "?") }

// literal is a value in TOML.
func literal(v any) string {
	switch v := plain(v).(type) {
	case string:
		return quote(v)
	case []string:
		items := make([]string, len(v))
		for i, s := range v {
			items[i] = quote(s)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case []int:
		items := make([]string, len(v))
		for i, n := range v {
			items[i] = strconv.Itoa(n)
		}
		return "[" + strings.Join(items, ", ") + "]"
	default:
		return fmt.Sprint(v)
	}
}

// plain gives a value as a settings file has it: durations, sizes and modes
// as text.
func plain(v any) any {
	switch v := v.(type) {
	case time.Duration:
		return formatDuration(v)
	case int64:
		return formatSize(v)
	case fs.FileMode:
		return formatMode(v)
	case []string:
		if v == nil {
			return []string{}
		}
	case []int:
		if v == nil {
			return []int{}
		}
	}
	return v
}

// quote makes a basic string of TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, string(utf8.RuneError)) {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case isControl(r):
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// setting is one setting in the output of PrintJSON.
type setting struct {
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// PrintJSON writes one object: for each setting, by name, {"value", "origin"}.
// Values are as in a settings file; those of balancers are named balancer[0].kind.
func (c *Config) PrintJSON(w io.Writer) error {
	all := map[string]setting{}
	v := reflect.ValueOf(c).Elem()
	for _, f := range settings().fields {
		if f.typ == balancerType {
			continue
		}
		all[f.name] = setting{plain(v.FieldByIndex(f.index).Interface()), c.Origin(f.name)}
	}
	for i, balancer := range c.Balancers {
		prefix := fmt.Sprintf("%s[%d].", balancerName, i)
		bv := reflect.ValueOf(balancer)
		for _, f := range balancerSettings().fields {
			all[prefix+f.name] = setting{plain(bv.FieldByIndex(f.index).Interface()), c.Origin(prefix + f.name)}
		}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}
