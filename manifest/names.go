package manifest

import "strings"

// The patterns are functions, not regular expressions, because compiling those
// would cost every start of the program. schema.json has the same as text.

// idPattern: [a-z0-9][a-z0-9-]*.
func idPattern(s string) bool {
	return s != "" && s[0] != '-' && only(s, func(c byte) bool { return lower(c) || digit(c) || c == '-' })
}

// keyPattern: [A-Z][A-Z0-9_]*.
func keyPattern(s string) bool {
	return s != "" && upper(s[0]) && only(s, func(c byte) bool { return upper(c) || digit(c) || c == '_' })
}

// variablePattern: [A-Za-z_][A-Za-z0-9_]*, a name for the shell.
func variablePattern(s string) bool {
	return s != "" && !digit(s[0]) && only(s, func(c byte) bool { return lower(c) || upper(c) || digit(c) || c == '_' })
}

// federationPattern: [A-Za-z0-9][A-Za-z0-9._-]*.
func federationPattern(s string) bool {
	return s != "" && (lower(s[0]) || upper(s[0]) || digit(s[0])) &&
		only(s, func(c byte) bool { return lower(c) || upper(c) || digit(c) || strings.IndexByte("._-", c) >= 0 })
}

// accountPattern: [A-Za-z0-9_][A-Za-z0-9_.@-]*\$?, a user, group or number.
func accountPattern(s string) bool {
	s = strings.TrimSuffix(s, "$")
	return s != "" && strings.IndexByte(".@-", s[0]) < 0 &&
		only(s, func(c byte) bool {
			return lower(c) || upper(c) || digit(c) || strings.IndexByte("_.@-", c) >= 0
		})
}

// hostPattern: a host name (RFC 1123), neither address nor wildcard.
func hostPattern(s string) bool {
	if len(s) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		inner := func(c byte) bool { return lower(c) || upper(c) || digit(c) || c == '-' }
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || !only(label, inner) {
			return false
		}
		last = label
	}
	return !only(last, digit)
}

func lower(c byte) bool { return c >= 'a' && c <= 'z' }
func upper(c byte) bool { return c >= 'A' && c <= 'Z' }
func digit(c byte) bool { return c >= '0' && c <= '9' }

func only(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}
