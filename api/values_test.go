package api_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/store"
)

func TestValueRoutes(t *testing.T) {
	long := strings.Repeat("x", 1<<20+1)
	for _, tt := range []struct {
		name, method, path, body string
		header                   [2]string
		status                   int
		answer                   string // part of the body
	}{
		{"read", "GET", "/v1/values/A", "", [2]string{}, 200, "one"},
		{"read a missing one", "GET", "/v1/values/B", "", [2]string{}, 404, `"code": "not_found"`},
		{"read a bad key", "GET", "/v1/values/a-b", "", [2]string{}, 400, "upper-case letter"},
		{"read another region", "GET", "/v1/values/A?region=eu", "", [2]string{}, 404, "not_found"},
		{"write", "PUT", "/v1/values/B", "two", [2]string{}, 200, `"version": 2`},
		{"write an empty value", "PUT", "/v1/values/B", "", [2]string{}, 200, `"version": 2`},
		{"write a newline", "PUT", "/v1/values/B", "two\n", [2]string{}, 400, "strip the newline"},
		{"write a NUL", "PUT", "/v1/values/B", "t\x00", [2]string{}, 400, "NUL"},
		{"write too much", "PUT", "/v1/values/B", long, [2]string{}, 413, "1 MiB"},
		{"write if the version is right", "PUT", "/v1/values/A", "x", [2]string{"If-Match", `"1"`}, 200, `"version": 2`},
		{"write if the version is wrong", "PUT", "/v1/values/A", "x", [2]string{"If-Match", `"9"`}, 412, `"code": "conflict"`},
		{"write if there", "PUT", "/v1/values/A", "x", [2]string{"If-Match", "*"}, 200, `"version": 2`},
		{"write if there, but it is not", "PUT", "/v1/values/B", "x", [2]string{"If-Match", "*"}, 412, "conflict"},
		{"write with a weak tag", "PUT", "/v1/values/A", "x", [2]string{"If-Match", `W/"1"`}, 400, "not understood"},
		{"write if not there", "PUT", "/v1/values/B", "x", [2]string{"If-None-Match", "*"}, 200, `"version": 2`},
		{"write if not there, but it is", "PUT", "/v1/values/A", "x", [2]string{"If-None-Match", "*"}, 412, "conflict"},
		{"write with another tag", "PUT", "/v1/values/A", "x", [2]string{"If-None-Match", `"1"`}, 400, "If-None-Match: *"},
		{"delete", "DELETE", "/v1/values/A", "", [2]string{}, 200, `"version": 2`},
		{"delete a missing one", "DELETE", "/v1/values/B", "", [2]string{}, 404, "not_found"},
		{"delete if the version is wrong", "DELETE", "/v1/values/A", "", [2]string{"If-Match", `"9"`}, 412, "conflict"},
		{"list", "GET", "/v1/values?prefix=A", "", [2]string{}, 200, `"value": "one"`},
		{"list nothing", "GET", "/v1/values?prefix=Z", "", [2]string{}, 200, `"values": []`},
		{"commit", "POST", "/v1/values", `{"ops":[{"key":"B","value":"2"},{"key":"A","delete":true}]}`, [2]string{}, 200, `"version": 2`},
		{"commit nothing", "POST", "/v1/values", `{"ops":[]}`, [2]string{}, 400, "nothing to write"},
		{"commit one key twice", "POST", "/v1/values", `{"ops":[{"key":"B"},{"key":"B"}]}`, [2]string{}, 400, "given twice"},
		{"commit an unknown field", "POST", "/v1/values", `{"opps":[]}`, [2]string{}, 400, "opps"},
		{"commit no JSON", "POST", "/v1/values", `{"ops":`, [2]string{}, 400, "not what this route takes"},
		{"commit and more", "POST", "/v1/values", `{"ops":[]} {}`, [2]string{}, 400, "text after"},
		{"commit against a version", "POST", "/v1/values", `{"ops":[{"key":"A","value":"2","if_version":4}]}`, [2]string{}, 412, "conflict"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			put(t, f, "A", "one")
			req := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			if tt.header[0] != "" {
				req.Header.Set(tt.header[0], tt.header[1])
			}
			w := httptest.NewRecorder()
			direct(f).ServeHTTP(w, req)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.answer) {
				t.Errorf("got %d %s, want %d with %q", w.Code, w.Body, tt.status, tt.answer)
			}
		})
	}
}

func put(t *testing.T, f *fakeAgent, key, value string) uint64 {
	t.Helper()
	rev, err := f.store.Commit(context.Background(), nil, store.Put(f.Space().Value("", key), []byte(value)))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// A followed key is served from the replica, also while the store is away,
// and any other is not.
func TestReplicaServes(t *testing.T) {
	f := newFake()
	f.replica[f.Space().Value("", "A")] = store.KV{Value: []byte("kept"), Rev: 5}
	f.replica[f.Space().Value("", "GONE")] = store.KV{}
	f.age = 90 * time.Second
	f.store.failing = store.ErrUnavailable
	h := direct(f)
	for path, want := range map[string]struct {
		status    int
		body, age string
	}{"/v1/values/A": {200, "kept", "90"}, "/v1/values/GONE": {404, "not found", ""}, "/v1/values/B": {503, "unavailable", ""}} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.body) || w.Header().Get("Age") != want.age {
			t.Errorf("%s: got %d %q Age %q, want %v", path, w.Code, w.Body, w.Header().Get("Age"), want)
		}
	}
}

// Who writes through the API reads that write, though the replica lags.
func TestReadYourWrites(t *testing.T) {
	f := newFake()
	rev := put(t, f, "A", "old")
	full := f.Space().Value("", "A")
	f.replica[full] = store.KV{Value: []byte("old"), Rev: rev}
	c, _ := serve(t, f)
	ctx := t.Context()
	rev, err := c.Commit(ctx, "", []api.ValueOp{{Key: "A", Value: "new"}})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		if v, err := c.Value(ctx, "", "A"); err != nil || v.Value != want {
			t.Errorf("got %q, %v; want %q", v.Value, err, want)
		}
	}
	expect("new")
	f.replica[full] = store.KV{Value: []byte("newer"), Rev: rev + 1}
	expect("newer")
	f.replica[full] = store.KV{Value: []byte("from the replica again"), Rev: 1}
	expect("from the replica again")
}

func TestClientValues(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	ctx := t.Context()
	if _, err := c.Commit(ctx, "eu", []api.ValueOp{{Key: "A", Value: "x=\xff", Create: true}, {Key: "B", Value: ""}}); err != nil {
		t.Fatal(err)
	}
	list, err := c.Values(ctx, "eu", "")
	if err != nil || len(list.Values) != 2 || list.Values[0].Value != "x=\xff" || list.Values[1].Value != "" || list.Values[0].Version != 1 {
		t.Errorf("list: %+v, %v", list, err)
	}
	v, err := c.Value(ctx, "eu", "A")
	if err != nil || v.Value != "x=\xff" || v.Version != 1 {
		t.Errorf("value: %+v, %v", v, err)
	}
	if _, err := c.Value(ctx, "", "A"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another region: %v", err)
	}
	if _, err := c.Commit(ctx, "eu", []api.ValueOp{{Key: "A", Create: true}}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("create what is there: %v", err)
	}
}

func TestWatchValues(t *testing.T) {
	f := newFake()
	put(t, f, "APP_A", "1")
	put(t, f, "OTHER", "1")
	c, _ := serve(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	enough := errors.New("enough")
	var got []string
	err := c.Watch(ctx, "", "APP_", func(u api.ValueUpdate) error {
		for _, v := range u.Values {
			got = append(got, u.Kind+" "+v.Key+"="+v.Value)
		}
		for _, g := range u.Gone {
			got = append(got, "gone "+g.Key)
			return enough
		}
		if u.Kind == "reset" {
			put(t, f, "OTHER", "2")
			put(t, f, "APP_B", "2")
			_, err := f.store.Commit(ctx, nil, store.Delete(f.Space().Value("", "APP_A")))
			return err
		}
		return nil
	})
	if want := "reset APP_A=1|change APP_B=2|gone APP_A"; !errors.Is(err, enough) || strings.Join(got, "|") != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
