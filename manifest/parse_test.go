package manifest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseGood(t *testing.T) {
	for _, c := range goodCases {
		t.Run(c.name, func(t *testing.T) {
			m, err := Parse("app-www.json", []byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if m.ID != "app-www" || m.File != "app-www.json" {
				t.Errorf("ID %q File %q", m.ID, m.File)
			}
		})
	}
}

func TestParseBad(t *testing.T) {
	for _, c := range slices.Concat(syntaxCases, badCases) {
		t.Run(c.name, func(t *testing.T) {
			m, err := Parse("app-www.json", []byte(c.in))
			if m != nil || err == nil {
				t.Fatalf("accepted: %+v", m)
			}
			if diff := cmp.Diff(c.want, err.Error()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			var first *Error
			if !errors.As(err, &first) || first.Hint == "" {
				t.Errorf("no *Error with a hint in %T", err)
			}
		})
	}
}

// tmpl is a template that is known to be good.
func tmpl(t *testing.T, text string, scope Scope, env map[string]string) Template {
	t.Helper()
	got, err := ParseTemplate(text, scope, env)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestParseAllFields(t *testing.T) {
	const in = `{
  "id": "app-www", "command": "make", "run_list": ["nginx::default", "php::fpm"],
  "environment": {"ENV": "production", "PORT": 8080, "RATIO": 1.50, "DEBUG": false},
  "requires": {"DATABASE_URL": "{PRIMARY_DATABASE_URL}"},
  "provides": {"WWW_URL": "http://{HOST}:{PORT}/{ENV}"},
  "local_port": 8081, "public": true, "hosts": ["WWW.example.com"], "federation": "seatgeek",
  "check": {"exec": "curl {PORT}"}, "priority": 10, "weight": 50, "balance": "hash",
  "exclusive": ["WWW_URL"], "binding": "relaxed", "user": "www-data", "group": "adm",
  "chef_type": "data_bag_item", "raw": {"a": [1, 2]}
}`
	m, err := Parse("dir/app-www.json", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"ENV": "production", "PORT": "8080", "RATIO": "1.50", "DEBUG": "false"}
	own := func(text string) Template { return tmpl(t, text, ProvidesScope, env) }
	want := &Manifest{
		ID: "app-www", File: "dir/app-www.json",
		Command:     Command{Argv: []string{"/bin/sh", "-c", "make"}},
		RunList:     []string{"nginx::default", "php::fpm"},
		Environment: env,
		Requires:    map[string]Template{"DATABASE_URL": tmpl(t, "{PRIMARY_DATABASE_URL}", RequiresScope, nil)},
		Provides:    map[string]Template{"WWW_URL": own("http://{HOST}:{PORT}/{ENV}")},
		Check:       &Check{Exec: []Template{own("/bin/sh"), own("-c"), own("curl {PORT}")}},
		LocalPort:   8081, Public: true, Hosts: []string{"www.example.com"}, Federation: "seatgeek",
		Priority: 10, Weight: 50, Balance: "hash", Exclusive: []string{"WWW_URL"}, Relaxed: true,
		User: "www-data", Group: "adm",
		Extra: map[string][]byte{"chef_type": []byte(`"data_bag_item"`), "raw": []byte(`{"a": [1, 2]}`)},
		Notes: []string{
			`"chef_type" is no member that listener knows; it is passed on in node.json`,
			`"raw" is no member that listener knows; it is passed on in node.json`,
		},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestParseDefaults(t *testing.T) {
	m, err := Parse("", []byte(`{"id": "a"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Manifest{ID: "a", Command: Command{Node: true}, Weight: 100, Balance: "roundrobin"}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestParseCommand(t *testing.T) {
	for in, want := range map[string]Command{
		`true`:          {Node: true},
		`false`:         {},
		`"a b"`:         {Argv: []string{"/bin/sh", "-c", "a b"}},
		`["a b", "-c"]`: {Argv: []string{"a b", "-c"}},
	} {
		m, err := Parse("-", []byte(`{"id": "a", "command": `+in+`}`))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, m.Command); diff != "" || m.Command.Own() != (len(want.Argv) > 0) {
			t.Errorf("%s: %s", in, diff)
		}
	}
}

func TestPort(t *testing.T) {
	for in, want := range map[string]string{
		`"environment": {"PORT": 80}, "local_port": 81`: "80",
		`"local_port": 81`:  "81",
		`"environment": {}`: "",
	} {
		if m, err := Parse("-", []byte(`{"id": "a", `+in+`}`)); err != nil || m.Port() != want {
			t.Errorf("%s: %+v, %v", in, m, err)
		}
	}
}

func TestParseChecks(t *testing.T) {
	m, err := Parse("-", []byte(`{"id": "a", "check": {"exec": ["/bin/true", "{{}}"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Check{Exec: []Template{tmpl(t, "/bin/true", ProvidesScope, nil), tmpl(t, "{{}}", ProvidesScope, nil)}}
	if diff := cmp.Diff(want, m.Check); diff != "" {
		t.Error(diff)
	}
	if m, err = Parse("-", []byte(`{"id": "a", "check": {"tcp": "a:1"}}`)); err != nil || m.Check.TCP.String() != "a:1" || m.Check.HTTP != nil {
		t.Errorf("%+v, %v", m.Check, err)
	}
}

func TestNotes(t *testing.T) {
	m, err := Parse("-", []byte(`{"id": "a", "requires": {"A": "fixed"}, "provides": {"NODE": "x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"requires A has no placeholder; such text belongs in environment",
		"provides NODE can only be required as {a/NODE}; {NODE} is built in",
	}
	if diff := cmp.Diff(want, m.Notes); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestParseLimits(t *testing.T) {
	big := `{"id": "a", "x": "` + strings.Repeat("x", MaxSize-20) + `"}`
	if _, err := Parse("a.json", []byte(big)); err != nil {
		t.Errorf("%d bytes: %v", len(big), err)
	}
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	many := strings.Repeat(`"", `, 1000)
	for _, c := range []struct{ name, in, want string }{
		{"too large", big + " ", "a.json: the file is larger than 1024 KiB (a manifest describes one service; is this the right file?)"},
		{"too deep", `{"id": "a", "x": ` + deep + `}`, "a.json:1:117: nested deeper than 100 levels"},
	} {
		if _, err := Parse("a.json", []byte(c.in)); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, err := Parse("a.json", []byte(`{"id": "a", "run_list": [`+many+`""]}`))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxErrors {
		t.Errorf("%d errors", len(errs))
	}
}

// The names that a data bag or a person adds must pass; what was meant as one
// of ours must not.
func TestNearMember(t *testing.T) {
	for name, want := range map[string]string{
		"chef_type": "", "data_bag": "", "json_class": "", "raw_data": "", "name": "", "comment": "", "description": "",
		"_id": "", "_requires": "", "ip": "", "port": "", "version": "", "tags": "", "owner": "", "team": "", "domain": "",
		"ID": "id", "Id": "id", "env": "environment", "envronment": "environment", "provide": "provides", "host": "hosts",
		"run-list": "run_list", "runlist": "run_list", "checks": "check", "wieght": "weight", "groups": "group",
		"priorty": "priority", "balence": "balance", "exclusiv": "exclusive", "requierd": "requires", "schema": "$schema",
	} {
		if got := nearMember(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	in := []byte(goodCases[1].in)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, err := Parse("app-www.json", in); err != nil {
			b.Fatal(err)
		}
	}
}
