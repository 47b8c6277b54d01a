package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "listener.toml")
	text := "[store.etcd]\nusername = 'u'\npassword_file = '$CREDENTIALS_DIRECTORY/listener.store-password'\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		"/run/credentials/x.service": "/run/credentials/x.service/listener.store-password",
		"":                           "/run/credentials/listener.service/listener.store-password",
	} {
		t.Setenv("CREDENTIALS_DIRECTORY", dir)
		c, err := Load(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Store.Etcd.PasswordFile; got != want {
			t.Errorf("CREDENTIALS_DIRECTORY=%q: %q, want %q", dir, got, want)
		}
	}
}
