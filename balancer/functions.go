package balancer

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// Function is one that templates can call, as docs/balancers.md has it.
type Function struct {
	Name, Args, What string
	Example, Result  string // what the example writes
	call             any
}

// Functions returns those of templates beside the ones that Go has.
func Functions() []Function { return functions() }

func functions() []Function {
	return []Function{
		{"join", "SEP LIST", "the texts of a list with SEP between them", `{{join ", " (split " " "a b")}}`, "a, b", join},
		{"split", "SEP TEXT", "the list of what stands between SEP", `{{len (split "," "a,b,c")}}`, "3", split},
		{"lower", "TEXT", "in lower case", `{{lower "AbC"}}`, "abc", strings.ToLower},
		{"upper", "TEXT", "in upper case", `{{upper "AbC"}}`, "ABC", strings.ToUpper},
		{"trim", "TEXT", "without blanks around it", `{{trim " a "}}`, "a", strings.TrimSpace},
		{"replace", "OLD NEW TEXT", "with each OLD made NEW", `{{replace "-" "_" "a-b-c"}}`, "a_b_c", replace},
		{"contains", "PART TEXT", "whether PART is in it", `{{contains "b" "abc"}}`, "true", contains},
		{"hasprefix", "PART TEXT", "whether it begins with PART", `{{hasprefix "*." "*.example.com"}}`, "true", hasPrefix},
		{"hassuffix", "PART TEXT", "whether it ends with PART", `{{hassuffix ".com" "example.com"}}`, "true", hasSuffix},
		{"quote", "TEXT", `between double quotes, with \ before " and \; a newline is an error`, `{{quote "a\"b"}}`, `"a\"b"`, doubleQuote},
		{"shellquote", "TEXT", "as one word of a shell", `{{shellquote "it's"}}`, `'it'\''s'`, shellQuote},
		{"default", "OTHER VALUE", "OTHER when VALUE is empty, 0 or false", `{{default "80" ""}}`, "80", orDefault},
		{"first", "LIST", "its first element; of an empty list an error", `{{first (split "," "a,b")}}`, "a", first},
		{"last", "LIST", "its last element; of an empty list an error", `{{last (split "," "a,b")}}`, "b", last},
		{"sort", "LIST", "the texts in order", `{{join "," (sort (split "," "b,a"))}}`, "a,b", sorted},
		{"unique", "LIST", "the texts, each where it comes first", `{{join "," (unique (split "," "b,a,b"))}}`, "b,a", unique},
		{"scheme", "URL", "its scheme in lower case", `{{scheme "HTTP://a:80/x"}}`, "http", urlScheme},
		{"host", "URL", "the host of a URL or host:port, without brackets", `{{host "http://[::1]:80/x"}}`, "::1", urlHost},
		{"port", "URL", "the port of a URL or host:port; empty without one", `{{port "http://a:80/x"}}`, "80", urlPort},
		{"path", "URL", "the path of a URL", `{{path "http://a:80/x?y"}}`, "/x", urlPath},
		{"hostport", "HOST PORT", "host:port, with an IPv6 address in brackets", `{{hostport "::1" 80}}`, "[::1]:80", hostPort},
		{"json", "VALUE", "any value as JSON on one line", `{{json (split "," "a,b")}}`, `["a","b"]`, toJSON},
		{"indent", "N TEXT", "with N blanks before each line that is not empty", `{{indent 2 "a"}}`, "  a", indent},
		{"add", "N …", "the sum", `{{add 1 2 3}}`, "6", add},
		{"sub", "N M", "the difference", `{{sub 3 1}}`, "2", sub},
		{"hash", "TEXT", "16 hexadecimal digits, the same for the same text", `{{hash "a"}}`, "ca978112ca1bbdca", hashText},
		{"regions", "SERVERS", "the regions of servers, sorted", `{{regions (first .Backends).Servers}}`, "[us]", regions},
		{"active", "SERVERS", "those that are no backup and have a weight", `{{len (active (first .Backends).Servers)}}`, "1", active},
		{"hosts", "ROUTES", "the hosts of routes, each once", `{{len (hosts (first .Frontends).Routes)}}`, "0", routeHosts},
		{
			"routes", "HOST ROUTES", "the routes that serve HOST, its own, and of *.domain that it is in and of any host those that no closer one covers; the longest path first",
			`{{len (routes "a.example.com" (first .Frontends).Routes)}}`, "0", hostRoutes,
		},
	}
}

// bounded are Go's own functions that make text, with a limit.
func bounded() template.FuncMap {
	return template.FuncMap{
		"print":    func(args ...any) (string, error) { return checkText(fmt.Sprint(args...)) },
		"println":  func(args ...any) (string, error) { return checkText(fmt.Sprintln(args...)) },
		"printf":   printf,
		"html":     func(args ...any) (string, error) { return checkText(template.HTMLEscaper(args...)) },
		"js":       func(args ...any) (string, error) { return checkText(template.JSEscaper(args...)) },
		"urlquery": func(args ...any) (string, error) { return checkText(template.URLQueryEscaper(args...)) },
	}
}

func checkText(s string) (string, error) {
	if len(s) > MaxOutput {
		return "", errLong
	}
	return s, nil
}

// printf is Go's, for formats whose result has an end: a text of each verb, and
// no width that is an argument.
func printf(format string, args ...any) (string, error) {
	longest := 1 << 10
	for _, a := range args {
		if s, ok := a.(string); ok {
			longest = max(longest, len(s))
		}
	}
	verbs := strings.Count(format, "%")
	switch {
	case strings.Contains(format, "*"):
		return "", errors.New("* is not allowed in a format")
	case widthTooLarge(format):
		return "", errors.New("a width in a format has more than three digits")
	case len(format)+verbs*longest > MaxOutput:
		return "", errLong
	}
	return checkText(fmt.Sprintf(format, args...))
}

func widthTooLarge(format string) bool {
	digits := 0
	for _, r := range format {
		if digits++; r < '0' || r > '9' {
			digits = 0
		}
		if digits > 3 {
			return true
		}
	}
	return false
}

func join(sep string, texts []string) (string, error) {
	n := len(sep) * len(texts)
	for _, s := range texts {
		n += len(s)
	}
	if n > MaxOutput {
		return "", errLong
	}
	return strings.Join(texts, sep), nil
}

func split(sep, s string) []string { return strings.Split(s, sep) }

func replace(old, with, s string) (string, error) {
	if len(s)+strings.Count(s, old)*max(0, len(with)-len(old)) > MaxOutput {
		return "", errLong
	}
	return strings.ReplaceAll(s, old, with), nil
}

func contains(part, s string) bool { return strings.Contains(s, part) }

func hasPrefix(part, s string) bool { return strings.HasPrefix(s, part) }

func hasSuffix(part, s string) bool { return strings.HasSuffix(s, part) }

func doubleQuote(s string) (string, error) {
	if strings.ContainsAny(s, "\n\r\x00") {
		return "", errors.New("the text has a newline or a NUL")
	}
	return checkText(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`)
}

func shellQuote(s string) (string, error) {
	if strings.Contains(s, "\x00") {
		return "", errors.New("the text has a NUL")
	}
	return checkText("'" + strings.ReplaceAll(s, "'", `'\''`) + "'")
}

func orDefault(other, value any) any {
	if truth, ok := template.IsTrue(value); !ok || !truth {
		return other
	}
	return value
}

func first(l any) (any, error) { return element(l, func(int) int { return 0 }) }

func last(l any) (any, error) { return element(l, func(n int) int { return n - 1 }) }

func element(l any, which func(n int) int) (any, error) {
	v := reflect.ValueOf(l)
	if v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return nil, fmt.Errorf("%T is not a list", l)
	}
	if v.Len() == 0 {
		return nil, errors.New("the list is empty")
	}
	return v.Index(which(v.Len())).Interface(), nil
}

func sorted(texts []string) []string { return slices.Sorted(slices.Values(texts)) }

func unique(texts []string) []string {
	seen := make(map[string]bool, len(texts))
	var list []string
	for _, s := range texts {
		if !seen[s] {
			seen[s] = true
			list = append(list, s)
		}
	}
	return list
}

// parts reads a URL or host:port. Errors are without the text: it may hold a
// password.
func parts(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "//" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("the text is neither a URL nor host:port")
	}
	return u, nil
}

func part(s string, of func(*url.URL) string) (string, error) {
	u, err := parts(s)
	if err != nil {
		return "", err
	}
	return of(u), nil
}

func urlScheme(s string) (string, error) { return part(s, func(u *url.URL) string { return u.Scheme }) }

func urlHost(s string) (string, error) { return part(s, (*url.URL).Hostname) }

func urlPort(s string) (string, error) { return part(s, (*url.URL).Port) }

func urlPath(s string) (string, error) { return part(s, (*url.URL).EscapedPath) }

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return checkText(strings.TrimSuffix(b.String(), "\n"))
}

func indent(n int, s string) (string, error) {
	if n < 0 || n > 100 {
		return "", fmt.Errorf("%d is not between 0 and 100", n)
	}
	if len(s)+(strings.Count(s, "\n")+1)*n > MaxOutput {
		return "", errLong
	}
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(strings.Repeat(" ", n))
		}
		b.WriteString(line)
	}
	return b.String(), nil
}

func add(numbers ...int) int {
	sum := 0
	for _, n := range numbers {
		sum += n
	}
	return sum
}

func sub(a, b int) int { return a - b }

func hashText(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

func regions(servers []Server) []string {
	var list []string
	for i := range servers {
		if len(list) == 0 || list[len(list)-1] != servers[i].Region { // they are sorted by it
			list = append(list, servers[i].Region)
		}
	}
	return unique(list)
}

func active(servers []Server) []Server {
	var list []Server
	for i := range servers {
		if !servers[i].Backup && servers[i].Weight > 0 {
			list = append(list, servers[i])
		}
	}
	return list
}

func routeHosts(routes []Route) []string {
	var list []string
	for _, r := range routes {
		list = append(list, r.Host)
	}
	return unique(list)
}

// hostRoutes is for balancers that choose a host before they look at the path.
// A route of a wider host counts only where no closer one has the path.
func hostRoutes(host string, all []Route) []Route {
	var list []Route
	closer := covered{}
	for _, r := range all { // the closest host first
		wild, isWild := strings.CutPrefix(r.Host, "*")
		if r.Host != host && r.Host != "" && !(isWild && strings.HasSuffix(host, wild)) {
			continue
		}
		if !closer.has(r) {
			closer.add(r)
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b Route) int { return cmp.Compare(len(b.Path), len(a.Path)) })
	return list
}

// covered says which hosts have a path, with a slash at its end. There may be
// many: other nodes write them.
type covered map[string]map[string]bool

func slashed(path string) string { return strings.TrimSuffix(path, "/") + "/" }

func (c covered) add(r Route) {
	path := slashed(r.Path)
	if c[path] == nil {
		c[path] = map[string]bool{}
	}
	c[path][r.Host] = true
}

// has reports whether another host than the route's has a prefix of its path.
func (c covered) has(r Route) bool {
	path := slashed(r.Path)
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		if hosts := c[path[:i+1]]; len(hosts) > 1 || len(hosts) == 1 && !hosts[r.Host] {
			return true
		}
	}
	return false
}
