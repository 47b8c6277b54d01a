package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/listener-agent/listener/store"
)

func TestEscape(t *testing.T) {
	for plain, want := range map[string]string{
		"":             "",
		"DATABASE_URL": "DATABASE_URL",
		"web-1":        "web-1",
		"10.0.0.5":     "10=2E0=2E0=2E5",
		"a/b":          "a=2Fb",
		"a=b":          "a=3Db",
		"=41":          "=3D41",
		"*>":           "=2A=3E",
		"ü":            "=C3=BC",
		"a b\n":        "a=20b=0A",
		"\x00\xff":     "=00=FF",
	} {
		got := store.Escape(plain)
		if got != want {
			t.Errorf("Escape(%q) = %q, want %q", plain, got, want)
		}
		if back, err := store.Unescape(got); err != nil || back != plain {
			t.Errorf("Unescape(%q) = %q, %v, want %q", got, back, err, plain)
		}
	}
}

func TestUnescapeRefuses(t *testing.T) {
	for _, text := range []string{"=", "=4", "a=", "a=2", "=2e", "=G0", "=41", "=5F", "=2D", "a.b", "a/b", "a b", "ü", "=2E.", "\x00"} {
		if got, err := store.Unescape(text); err == nil {
			t.Errorf("Unescape(%q) = %q, want an error: Escape does not make it", text, got)
		}
	}
}

// Escape is a bijection between all texts and those that Unescape takes, and
// what it makes is a part of a key on every store.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "A", "=", "=2E", "=2e", "a/b", "\x00", "ü", "=41"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := store.Escape(s)
		if back, err := store.Unescape(e); err != nil || back != s {
			t.Errorf("%q → %q → %q, %v", s, e, back, err)
		}
		if strings.Trim(e, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-=") != "" {
			t.Errorf("%q → %q", s, e)
		}
		if s != "" && len(e) < store.MaxKey {
			if err := store.CheckKey("/" + e); err != nil {
				t.Error(err)
			}
		}
		if u, err := store.Unescape(s); err == nil && store.Escape(u) != s {
			t.Errorf("%q is taken for %q, whose form is %q", s, u, store.Escape(u))
		}
	})
}

func TestSpace(t *testing.T) {
	s := store.Space{Prefix: "/listener/v1", Federation: "seat.geek"}
	for got, want := range map[string]string{
		s.Key():                                              "/listener/v1/seat=2Egeek",
		s.Key("a/b", "c"):                                    "/listener/v1/seat=2Egeek/a=2Fb/c",
		s.Value("", "DB_URL"):                                "/listener/v1/seat=2Egeek/values/DB_URL",
		s.Value("us-east", "DB_URL"):                         "/listener/v1/seat=2Egeek/regions/us-east/values/DB_URL",
		s.Provider("WWW", "r", "n.net", "s"):                 "/listener/v1/seat=2Egeek/provides/WWW/r/n=2Enet/s",
		store.Space{Federation: "f"}.Key("a"):                "/f/a",
		store.Space{Prefix: "/p/", Federation: "f"}.Key("a"): "/p/f/a",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if err := store.CheckKey(got); err != nil {
			t.Error(err)
		}
	}
}

func TestSpaceParts(t *testing.T) {
	s := store.Space{Prefix: "/listener/v1", Federation: "f.1"}
	for _, parts := range [][]string{{"values", "DB_URL"}, {"nodes", "web/1"}, {"a"}, {"=", "ü", "\x00"}} {
		got, ok := s.Parts(s.Key(parts...))
		if !ok || !slices.Equal(got, parts) {
			t.Errorf("Parts(%s) = %q, %v, want %q", s.Key(parts...), got, ok, parts)
		}
	}
	other := store.Space{Prefix: "/listener/v1", Federation: "f.12"}
	for _, key := range []string{"", "/", s.Key(), s.Key() + "/", s.Key("a") + "/", s.Key("a") + "//b", s.Key() + "/a.b", other.Key("a"), "/listener/v1/f.1/a"} {
		if got, ok := s.Parts(key); ok {
			t.Errorf("Parts(%q) = %q, want none", key, got)
		}
	}
}

func TestCheckKey(t *testing.T) {
	for _, key := range []string{"/a", "/a/b", "/A_-9/=2E", "/" + strings.Repeat("a", store.MaxKey-1)} {
		if err := store.CheckKey(key); err != nil {
			t.Error(err)
		}
		if err := store.CheckPrefix(key + "/"); err != nil {
			t.Error(err)
		}
	}
	if err := store.CheckPrefix("/"); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"", "/", "a", "//", "/a/", "/a//b", "/a.b", "/=", "/=41", "/a b", "/" + strings.Repeat("a", store.MaxKey)} {
		err := store.CheckKey(key)
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("CheckKey(%.20q) = %v", key, err)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}

func TestCheckCommit(t *testing.T) {
	many := make([]store.Op, store.MaxOps+1)
	conds := make([]store.Cond, store.MaxOps+1)
	for i := range many {
		key := "/k/" + strings.Repeat("a", i+1)
		many[i], conds[i] = store.Delete(key), store.Cond{Key: key}
	}
	if err := store.CheckCommit(conds[1:], many[1:]); err != nil {
		t.Error(err)
	}
	half := make([]byte, store.MaxValue/2)
	if err := store.CheckCommit(nil, []store.Op{store.Put("/a", half), store.Put("/b", half)}); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"too many conditions": store.CheckCommit(conds, nil),
		"too many ops":        store.CheckCommit(nil, many),
		"two ops on a key":    store.CheckCommit(nil, []store.Op{store.Delete("/a"), store.Put("/a", nil)}),
		"too many bytes":      store.CheckCommit(nil, []store.Op{store.Put("/a", half), store.Put("/b", half), store.Put("/c", []byte("x"))}),
		"delete with a value": store.CheckCommit(nil, []store.Op{{Key: "/a", Delete: true, Value: []byte("x")}}),
		"a bad key":           store.CheckCommit(nil, []store.Op{store.Put("a", nil)}),
		"a bad condition":     store.CheckCommit([]store.Cond{{Key: "a"}}, nil),
	} {
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
