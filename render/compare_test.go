package render

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFindDrift(t *testing.T) {
	dir := t.TempDir()
	f := file(filepath.Join(dir, "a.conf"), "content")
	for _, tt := range []struct {
		what   string
		change func() error
	}{
		{"", func() error { return nil }},
		{Edited, func() error { return os.WriteFile(f.Path, []byte("Content"), 0o640) }},
		{Edited, func() error { return os.WriteFile(f.Path, nil, 0o640) }},
		{Edited, func() error { return os.WriteFile(f.Path, []byte("content and more"), 0o640) }},
		{ChangedMode, func() error { return os.Chmod(f.Path, 0o600) }},
		{Missing, func() error { return os.Remove(f.Path) }},
	} {
		write(t, f)
		if err := tt.change(); err != nil {
			t.Fatal(err)
		}
		var want []Drift
		if tt.what != "" {
			want = []Drift{{f.Path, tt.what}}
		}
		if diff := cmp.Diff(want, FindDrift([]File{f})); diff != "" {
			t.Errorf("%q: %s", tt.what, diff)
		}
	}
}

func TestOwnerOfFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	f := file(filepath.Join(t.TempDir(), "a.conf"), "content")
	f.UID, f.GID = 12345, 54321
	write(t, f)
	if d := FindDrift([]File{f}); d != nil {
		t.Errorf("drift %v", d)
	}
	if err := os.Chown(f.Path, 12345, 0); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Drift{{f.Path, ChangedOwner}}, FindDrift([]File{f})); diff != "" {
		t.Error(diff)
	}
	left := f
	left.GID = -1
	if d := FindDrift([]File{left}); d != nil {
		t.Errorf("a group that is left: %v", d)
	}
	if got := write(t, f); len(got) != 1 {
		t.Errorf("repaired: %q", got)
	}
	if d := FindDrift([]File{f}); d != nil {
		t.Errorf("drift after the repair: %v", d)
	}
}

func TestOwner(t *testing.T) {
	for _, tt := range []struct {
		user, group string
		uid, gid    int
		err         string
	}{
		{"", "", -1, -1, ""},
		{"root", "", 0, -1, ""},
		{"", "root", -1, 0, ""},
		{"12345", "54321", 12345, 54321, ""},
		{"no-such-user", "root", -1, -1, `look up user "no-such-user": does not exist`},
		{"root", "no-such-group", -1, -1, `look up group "no-such-group": does not exist`},
		{"-5", "", -1, -1, `look up user "-5": does not exist`},
		{"99999999999", "", -1, -1, `look up user "99999999999": does not exist`},
	} {
		uid, gid, err := Owner(tt.user, tt.group)
		if uid != tt.uid || gid != tt.gid {
			t.Errorf("%q, %q: %d, %d", tt.user, tt.group, uid, gid)
		}
		if tt.err == "" && err != nil || tt.err != "" && (!errors.Is(err, ErrNoOwner) || err.Error() != tt.err) {
			t.Errorf("%q, %q: %v, want %q", tt.user, tt.group, err, tt.err)
		}
	}
}
