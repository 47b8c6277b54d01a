package store

import (
	"fmt"
	"strings"
)

const hexDigits = "0123456789ABCDEF"

// Escape makes one part of a key from any text: each byte outside
// [A-Za-z0-9_-] becomes =XX (upper-case hex). The same on every store.
func Escape(part string) string {
	n := 0
	for i := range len(part) {
		if !plain(part[i]) {
			n++
		}
	}
	if n == 0 {
		return part
	}
	b := make([]byte, 0, len(part)+2*n)
	for i := range len(part) {
		if c := part[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '=', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}

// Unescape is the inverse of Escape. Text that Escape cannot have made is an error.
func Unescape(part string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(part); i++ {
		c := part[i]
		if plain(c) {
			b.WriteByte(c)
			continue
		}
		if c != '=' || i+2 >= len(part) {
			return "", fmt.Errorf("unescape %q: byte %d is not an escape", part, i)
		}
		hi, lo := strings.IndexByte(hexDigits, part[i+1]), strings.IndexByte(hexDigits, part[i+2])
		if hi < 0 || lo < 0 || plain(byte(hi<<4|lo)) {
			return "", fmt.Errorf("unescape %q: byte %d is not an escape", part, i)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), nil
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// Space is one federation's part of a store: {Prefix}/{Federation}/….
type Space struct {
	Prefix     string // such as "/listener/v1": taken as it is, without a final slash
	Federation string
}

// Key joins parts, each escaped, under the federation.
func (s Space) Key(parts ...string) string {
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(s.Prefix, "/"))
	b.WriteByte('/')
	b.WriteString(Escape(s.Federation))
	for _, p := range parts {
		b.WriteByte('/')
		b.WriteString(Escape(p))
	}
	return b.String()
}

// Value is where an operator's value for key is. Region "" is every region.
func (s Space) Value(region, key string) string {
	if region == "" {
		return s.Key("values", key)
	}
	return s.Key("regions", region, "values", key)
}

// Provider is where one provider's entry is.
func (s Space) Provider(key, region, node, service string) string {
	return s.Key("provides", key, region, node, service)
}

// Providers is the subtree with all entries of key.
func (s Space) Providers(key string) string { return s.Key("provides", key) + "/" }

// Node is where a node's record is.
func (s Space) Node(node string) string { return s.Key("nodes", node) }

// Parts splits a key of this federation into its unescaped parts, without
// prefix and federation; ok is false for any other key.
func (s Space) Parts(key string) (parts []string, ok bool) {
	rest, ok := strings.CutPrefix(key, s.Key()+"/")
	if !ok {
		return nil, false
	}
	for p := range strings.SplitSeq(rest, "/") {
		u, err := Unescape(p)
		if err != nil || u == "" {
			return nil, false
		}
		parts = append(parts, u)
	}
	return parts, true
}
