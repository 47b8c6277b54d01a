package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestParseStoreURL(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"local:/x/../y":              "local:/y",
		"local:///y":                 "local:/y",
		"local:d":                    "local:" + filepath.Join(wd, "d"),
		"etcd://h1:2379,h2":          "etcd://h1:2379,h2:2379",
		"etcd://[::1], https://h:1/": "etcd://[::1]:2379,h:1",
		"nats://h:4222":              "nats://h:4222",
		"nats://h,10.0.0.1":          "nats://h:4222,10.0.0.1:4222",
	} {
		s, err := ParseStoreURL(url)
		if err != nil || s.String() != want {
			t.Errorf("%s: %s, %v, want %s", url, s, err, want)
			continue
		}
		if again, err := ParseStoreURL(s.String()); err != nil || again.String() != want {
			t.Errorf("%s is not read back: %s, %v", want, again, err)
		}
		if s.Prefix != "/listener/v1" {
			t.Errorf("%s: prefix %q", url, s.Prefix)
		}
	}
}

func TestParseStoreURLErrors(t *testing.T) {
	const user = "store: a user name or password does not belong here (write username and password_file, or creds_file, in the settings file)"
	for url, want := range map[string]string{
		"":                         `store: "" is not a store (` + storeShapes + `)`,
		"/var/lib":                 `store: "/var/lib" is not a store (` + storeShapes + `)`,
		"redis://u:s3cret@h":       `store: "…@h" is not a store (` + storeShapes + `)`,
		"local:":                   `store: "local:" names no directory (write local:DIR)`,
		"etcd://":                  `store: "etcd://" names no server (` + storeShapes + `)`,
		"etcd:h":                   `store: "etcd:h" names no server (` + storeShapes + `)`,
		"etcd://h,":                `store: "" is not the address of a server (write https://10.0.0.1:2379)`,
		"etcd://h:x":               `store: "h:x" is not the address of a server (write https://10.0.0.1:2379)`,
		"etcd://h:0":               `store: "h:0" is not the address of a server (write https://10.0.0.1:2379)`,
		"etcd://h:":                `store: "h:" is not the address of a server (write https://10.0.0.1:2379)`,
		"nats://h/p":               `store: "h/p" is not the address of a server (write nats://10.0.0.1:4222)`,
		"nats://h?x=1":             `store: "h?x=1" is not the address of a server (write nats://10.0.0.1:4222)`,
		"nats://http://h":          `store: "http://h" has the scheme http (write nats://10.0.0.1:4222)`,
		"nats://user:s3cret@h":     user,
		"etcd://h1,user:s3cret@h2": user,
	} {
		_, err := ParseStoreURL(url)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", url, err, want)
		}
		if e := (*Error)(nil); !errors.As(err, &e) {
			t.Errorf("%s: %T is no *Error", url, err)
		}
	}
}

func TestEndpointURLs(t *testing.T) {
	e := Etcd{Endpoints: []string{"h1", "http://h2:1", "https://h3", "::1"}}
	if got, want := e.EndpointURLs(), []string{"http://h1:2379", "http://h2:1", "https://h3:2379"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	e = Etcd{Endpoints: []string{"h1", "http://h2:1"}, CAFile: "/ca"}
	if got, want := e.EndpointURLs(), []string{"https://h1:2379", "http://h2:1"}; !slices.Equal(got, want) {
		t.Errorf("with a CA: got %v, want %v", got, want)
	}
	n := NATS{Servers: []string{"h1", "tls://h2:1"}}
	if got, want := n.ServerURLs(), []string{"nats://h1:4222", "tls://h2:1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
