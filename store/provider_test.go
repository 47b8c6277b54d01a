package store_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/store"
)

func TestProvider(t *testing.T) {
	t.Parallel()
	full := store.Provider{
		Value: "http://10.0.0.5:8080/x", Host: "10.0.0.5", Port: 8080, LocalPort: 9000, Public: true,
		Hosts: []string{"www.example.com", "*.example.org"}, Priority: 10, Weight: 0, Balance: store.Hash,
		State: store.Draining, Incarnation: 1 << 63, Claim: 7,
	}
	got, err := store.DecodeProvider(full.Encode())
	if d := cmp.Diff(full, got); d != "" || err != nil {
		t.Errorf("decoded (-want +got):\n%s%v", d, err)
	}
	want := store.Provider{Value: "x", Weight: 100, State: store.Up}
	got, err = store.DecodeProvider([]byte(`{"value":"x","state":"up","later":[1]}`))
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("defaults (-want +got):\n%s%v", d, err)
	}
	for entry, want := range map[string]string{
		``:                                      "unexpected end",
		`[]`:                                    "cannot unmarshal",
		`{"value":"x"}`:                         `state "" is unknown`,
		`{"state":"up","value":"a\nb"}`:         "not one line",
		`{"state":"up","value":"a\u0000"}`:      "not one line",
		`{"state":"up","host":"a b"}`:           `host "a b"`,
		`{"state":"up","host":"a;b"}`:           `host "a;b"`,
		`{"state":"up","port":65536}`:           "port 65536",
		`{"state":"up","port":"80"}`:            "cannot unmarshal",
		`{"state":"up","local_port":-1}`:        "local_port -1",
		`{"state":"up","weight":257}`:           "weight 257",
		`{"state":"up","priority":70000}`:       "priority 70000",
		`{"state":"up","balance":"random"}`:     `balance "random"`,
		`{"state":"up","hosts":["a","b\nuse"]}`: "host name",
		`{"state":"up","hosts":[""]}`:           "host name",
		`{"state":"up","incarnation":-1}`:       "cannot unmarshal",
		`{"state":"up","value":"` + strings.Repeat("x", 64<<10) + `"}`: "more than 65536",
	} {
		if _, err := store.DecodeProvider([]byte(entry)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %q", entry, err, want)
		}
	}
}

func TestNodeRecord(t *testing.T) {
	t.Parallel()
	want := store.NodeRecord{Version: "1", Region: "r", MachineID: "m", BootID: "b", AgentState: "up", Revision: 7, WaitingOn: []string{"A"}}
	got, err := store.DecodeNodeRecord(want.Encode())
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("decoded (-want +got):\n%s%v", d, err)
	}
	for _, entry := range []string{"", "[]", `{"revision":-1}`, strings.Repeat(" ", 64<<10+1)} {
		if _, err := store.DecodeNodeRecord([]byte(entry)); err == nil {
			t.Errorf("%.20q is taken", entry)
		}
	}
}
