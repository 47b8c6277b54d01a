package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files of testdata")

// nasty are values that a wrong quoting would change or, worse, run.
var nasty = []string{
	"", " ", "plain", "two words", " blanks around ", "tab\tinside",
	`'`, `''`, `'\''`, `it's`, `"`, `say "hi"`, `\`, `\\`, `trailing\`, `trailing\\`, `\n`, `\'`, `\"`, "\\\n",
	`$HOME`, `${HOME}`, `$(touch pwned)`, "`touch pwned`", `$`, `$$`, `$((1+1))`, `%h %%`, `!history`, `~`, `*`, `?`, `[a]`, `{a,b}`,
	`; touch pwned`, `& touch pwned &`, `| touch pwned`, `> pwned`, `'; touch pwned; '`, `"; touch pwned; "`, `#comment`, `; comment`, `a=b`, `=`,
	"new\nline", "\n", "\n\n", "end\n", "\r\n", "\r", "\nexport X=1\n", "'\n'", "\x01\x02\x7f", "\x1b[31m", "\a\b\v\f",
	"grüße", "日本語", "🙂", "e\u0301", "\u2028\u2029", "\u00a0", "<a href='x'>&amp;</a>",
	"postgres://u:p%40ss'w\"ord@db.example.com:5432/x?sslmode=require&a=$b", strings.Repeat("x'", 5000),
}

func nastyVars() []Var {
	var vars []Var
	for i, value := range nasty {
		vars = append(vars, Var{"V" + strings.Repeat("_", i/26) + string(rune('A'+i%26)), value})
	}
	return vars
}

func asMap(vars []Var) map[string]string {
	m := map[string]string{}
	for _, v := range vars {
		m[v.Name] = v.Value
	}
	return m
}

func mustEnv(t testing.TB, format string, vars []Var) []byte {
	t.Helper()
	b, err := Env(format, vars)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

func TestEnvGolden(t *testing.T) {
	vars := []Var{
		{"WWW_URL", "http://10.0.0.5:8080/some-mount"},
		{"DATABASE_URL", `postgres://app:it's$ecret\"` + "`x`@db/app"},
		{"EMPTY", ""},
		{"GREETING", "grüße & <küsse>\nzweite Zeile"},
		{"_x1", "lower"},
	}
	reversed := []Var{vars[4], vars[3], vars[2], vars[1], vars[0]}
	dir, want := t.TempDir(), map[string]string{}
	for _, format := range []string{Shell, Systemd, JSON} {
		b := mustEnv(t, format, vars)
		name := filepath.Base(EnvPath("", "app-www", format))
		golden(t, name, b)
		write(t, File{Path: EnvPath(dir, "app-www", format), Data: b, Mode: 0o640, UID: -1, GID: -1})
		want[name] = "0640 " + string(b)
		if !bytes.Equal(b, mustEnv(t, format, reversed)) {
			t.Errorf("%s: the order of the variables changes the file", format)
		}
	}
	wantTree(t, "on disk", dir, want)
	if vars[0].Name != "WWW_URL" {
		t.Error("Env reordered its argument")
	}
}

func TestEnvEmpty(t *testing.T) {
	for format, want := range map[string]string{Shell: "", Systemd: "", JSON: "{}\n"} {
		if got := string(mustEnv(t, format, nil)); got != want {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
}

func TestEnvPath(t *testing.T) {
	for format, want := range map[string]string{
		Shell: "/etc/services.d/api.conf", Systemd: "/etc/services.d/api.env", JSON: "/etc/services.d/api.json", "yaml": "",
	} {
		if got := EnvPath("/etc/services.d", "api", format); got != want {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
}

func TestEnvRefuses(t *testing.T) {
	all := []string{Shell, Systemd, JSON}
	for _, tt := range []struct {
		name    string
		formats []string
		vars    []Var
		want    string
	}{
		{"NUL", all, []Var{{"A", "x"}, {"B", "se\x00cret"}}, `variable "B": the value contains a NUL byte, which no environment can hold`},
		{"twice", all, []Var{{"A", "1"}, {"B", "2"}, {"A", "1"}}, `variable "A": is given twice`},
		{"no name", all, []Var{{"", "secret"}}, `variable "": the name is not of the form [A-Za-z_][A-Za-z0-9_]*`},
		{"digit", all, []Var{{"1A", "secret"}}, `variable "1A": the name is not of the form [A-Za-z_][A-Za-z0-9_]*`},
		{"code", all, []Var{{"A=1;touch pwned;B", "secret"}}, `variable "A=1;touch pwned;B": the name is not`},
		{"letter", all, []Var{{"GRÖSSE", "secret"}}, `variable "GRÖSSE": the name is not`},
		{"Latin-1", []string{Systemd, JSON}, []Var{{"A", "gr\xfc\xdfe secret"}}, `variable "A": the value is not`},
		{"surrogate", []string{Systemd, JSON}, []Var{{"A", "\xed\xa0\x80 secret"}}, `variable "A": the value is not`},
		{"byte order mark", []string{Systemd}, []Var{{"A", "\ufeffsecret"}}, `variable "A": the value is not text that systemd accepts`},
		{"noncharacter", []string{Systemd}, []Var{{"A", "secret\U0001fffe"}}, `variable "A": the value is not text that systemd accepts`},
		{"noncharacter", []string{Systemd}, []Var{{"A", "secret\ufdd0"}}, `variable "A": the value is not text that systemd accepts`},
	} {
		for _, format := range tt.formats {
			b, err := Env(format, tt.vars)
			if _, ok := errors.AsType[*VarError](err); !ok || !strings.HasPrefix(err.Error(), tt.want) || b != nil {
				t.Errorf("%s, %s: %q, %v; want %s", tt.name, format, b, err, tt.want)
				continue
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%s, %s: the error tells the value", tt.name, format)
			}
		}
	}
	if _, err := Env("yaml", nil); err == nil || !strings.Contains(err.Error(), `unknown format "yaml"`) {
		t.Errorf("unknown format: %v", err)
	}
}

// source has a real shell source the file, and returns what it then exports.
func source(t testing.TB, shell string, locale string, file []byte) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f.conf"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(shell, "-euc", ". ./f.conf; exec env -0")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=" + locale}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s: %v: %s", shell, err, stderr.Bytes())
	}
	if _, err := os.Lstat(filepath.Join(dir, "pwned")); err == nil {
		t.Fatalf("%s ran a value", shell)
	}
	m := map[string]string{}
	for entry := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		switch name {
		case "PATH", "HOME", "LC_ALL", "PWD", "SHLVL", "_", "OLDPWD":
		default:
			m[name] = value
		}
	}
	return m
}

// shells returns those that are there; sh must be.
func shells(t *testing.T) []string {
	t.Helper()
	list := []string{"sh"}
	for _, s := range []string{"bash", "zsh", "ksh"} {
		if _, err := exec.LookPath(s); err != nil {
			t.Logf("no %s here: not tried with it", s)
		} else {
			list = append(list, s)
		}
	}
	return list
}

func TestShellsReadBackNastyValues(t *testing.T) {
	vars := append(nastyVars(), Var{"LATIN1", "gr\xfc\xdfe"}, Var{"BYTES", "\x80\x81\x88\xfe\xff"})
	file := mustEnv(t, Shell, vars)
	for _, shell := range shells(t) {
		for _, locale := range []string{"C", "C.UTF-8"} {
			if diff := cmp.Diff(asMap(vars), source(t, shell, locale, file)); diff != "" {
				t.Errorf("%s in locale %s: %s", shell, locale, diff)
			}
		}
	}
}

// genVars draws variables whose values consist mostly of what quoting is about.
func genVars(text bool) *rapid.Generator[[]Var] {
	special := []byte("'\"\\$`(){};&|<>#!*~ \t\n\r=%a1")
	return rapid.Custom(func(t *rapid.T) []Var {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`V_[A-Za-z0-9_]{0,8}`), 0, 20, rapid.ID).Draw(t, "names")
		vars := make([]Var, 0, len(names))
		for _, name := range names {
			var value []byte
			switch {
			case rapid.Bool().Draw(t, "special"):
				value = rapid.SliceOf(rapid.SampledFrom(special)).Draw(t, "value")
			case text:
				value = []byte(rapid.String().Draw(t, "value"))
			default:
				value = rapid.SliceOf(rapid.ByteMin(1)).Draw(t, "value")
			}
			vars = append(vars, Var{name, strings.ReplaceAll(string(value), "\x00", "0")})
		}
		return vars
	})
}

func TestShellsReadBackAnything(t *testing.T) {
	list := shells(t)
	rapid.Check(t, func(rt *rapid.T) {
		vars := genVars(false).Draw(rt, "vars")
		file := mustEnv(t, Shell, vars)
		for _, shell := range list {
			if diff := cmp.Diff(asMap(vars), source(t, shell, "C", file)); diff != "" {
				rt.Fatalf("%s: %s", shell, diff)
			}
		}
	})
}

func TestJSONReadsBackAnything(t *testing.T) {
	check := func(vars []Var) string {
		b := mustEnv(t, JSON, vars)
		var got map[string]string
		if err := json.Unmarshal(b, &got); err != nil {
			return err.Error()
		}
		if !bytes.HasSuffix(b, []byte("}\n")) {
			return "no newline at the end"
		}
		return cmp.Diff(asMap(vars), got)
	}
	if diff := check(nastyVars()); diff != "" {
		t.Error(diff)
	}
	rapid.Check(t, func(t *rapid.T) {
		if diff := check(genVars(true).Draw(t, "vars")); diff != "" {
			t.Fatal(diff)
		}
	})
}

// What Env accepts for systemd comes back by the rules of systemd.exec(5); what
// it refuses is no text for it.
func TestSystemdReadsBackAnything(t *testing.T) {
	if diff := cmp.Diff(asMap(nastyVars()), parseSystemd(t, mustEnv(t, Systemd, nastyVars()))); diff != "" {
		t.Error(diff)
	}
	rapid.Check(t, func(rt *rapid.T) {
		vars := genVars(rapid.Bool().Draw(rt, "text")).Draw(rt, "vars")
		file, err := Env(Systemd, vars)
		if err != nil {
			for _, v := range vars {
				if !utf8.ValidString(v.Value) || !Text(v.Value) {
					return
				}
			}
			rt.Fatal(err)
		}
		if diff := cmp.Diff(asMap(vars), parseSystemd(t, file)); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// parseSystemd reads an environment file by the rules of systemd.exec(5),
// EnvironmentFile=, as of systemd 252. The rules in full are: empty lines, and
// those that begin with ; or #, are ignored; blanks around a name and outside of
// quotes are dropped; unquoted, a backslash keeps the next character and a
// backslash before a newline joins the lines; in single quotes everything is
// literal; in double quotes a backslash keeps one of " \ ` $, joins lines
// before a newline, and is literal before anything else; parts may follow each other.
func parseSystemd(t testing.TB, file []byte) map[string]string {
	t.Helper()
	m := map[string]string{}
	p := string(file)
	for p != "" {
		p = strings.TrimLeft(p, " \t\r\n")
		if p == "" {
			break
		}
		if p[0] == ';' || p[0] == '#' {
			_, p, _ = strings.Cut(p, "\n")
			continue
		}
		name, rest, found := strings.Cut(p, "=")
		if !found || strings.Contains(name, "\n") {
			t.Fatalf("a line without =: %q", p)
		}
		value, rest := systemdValue(rest)
		m[strings.TrimSpace(name)], p = value, rest
	}
	return m
}

func systemdValue(p string) (value, rest string) {
	var v strings.Builder
	blanks := ""
	for i := 0; i < len(p); i++ {
		switch c := p[i]; c {
		case '\n', '\r':
			return v.String(), p[i+1:]
		case ' ', '\t':
			blanks += string(c)
		case '\'':
			blanks = ""
			for i++; i < len(p) && p[i] != '\''; i++ {
				v.WriteByte(p[i])
			}
		case '"':
			blanks = ""
			for i++; i < len(p) && p[i] != '"'; i++ {
				if p[i] != '\\' || i+1 == len(p) {
					v.WriteByte(p[i])
					continue
				}
				if i++; p[i] == '\n' {
					continue
				}
				if !strings.ContainsRune("\"\\`$", rune(p[i])) {
					v.WriteByte('\\')
				}
				v.WriteByte(p[i])
			}
		default:
			v.WriteString(blanks)
			blanks = ""
			if c == '\\' && i+1 < len(p) {
				if i++; p[i] == '\n' {
					continue
				}
			}
			v.WriteByte(p[i])
		}
	}
	return v.String(), ""
}
