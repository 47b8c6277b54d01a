package api

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

type document struct {
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas map[string]struct {
			Properties map[string]json.RawMessage
		}
	}
}

func load(t *testing.T) (d document) {
	t.Helper()
	if err := json.Unmarshal(openAPI, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Every route is described, and nothing else is.
func TestOpenAPIRoutes(t *testing.T) {
	var described, served []string
	for path, ops := range load(t).Paths {
		for method := range ops {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	for _, r := range (&Server{}).routes() {
		served = append(served, r.method+" "+r.path)
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("openapi.json has\n%s\nthe server has\n%s", strings.Join(described, "\n"), strings.Join(served, "\n"))
	}
}

// Every schema names the members that its Go type has.
func TestOpenAPISchemas(t *testing.T) {
	schemas := load(t).Components.Schemas
	seen := map[string]bool{}
	for _, v := range []any{
		status.Status{},
		status.Explain{},
		status.Resolved{},
		status.Event{},
		status.Accepted{},
		status.Queued{},
		status.KeyProviders{},
		status.Fleet{},
		status.Run{},
		Switched{},
		OnRequest{},
		OffRequest{},
		DrainRequest{},
		HoldRequest{},
		Held{},
		status.Environment{},
		ProvisionRequest{},
		AcceptRequest{},
		Done{},
		valueJSON{},
		ValueList{},
		ValueOp{},
		ValueUpdate{},
		ValueGone{},
		Committed{},
		commitRequest{},
		Error{},
	} {
		compare(t, schemas, seen, reflect.TypeOf(v))
	}
	for name := range schemas {
		if !seen[name] {
			t.Errorf("schema %s belongs to no type", name)
		}
	}
}

func compare(t *testing.T, schemas map[string]struct{ Properties map[string]json.RawMessage }, seen map[string]bool, typ reflect.Type) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	name := map[string]string{"valueJSON": "Value", "commitRequest": "CommitRequest"}[typ.Name()]
	if name == "" {
		name = typ.Name()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() || seen[name] {
		return
	}
	seen[name] = true
	var fields, props []string
	for f := range typ.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "-" {
			continue
		}
		if tag != "" {
			fields = append(fields, tag)
		}
		compare(t, schemas, seen, f.Type)
	}
	for p := range schemas[name].Properties {
		props = append(props, p)
	}
	slices.Sort(fields)
	slices.Sort(props)
	if !slices.Equal(fields, props) {
		t.Errorf("%s: Go has %v, openapi.json %v", name, fields, props)
	}
}

// Both sides of the socket agree on every error that callers branch on.
func TestErrorsSurvive(t *testing.T) {
	for _, err := range []error{store.ErrNotFound, store.ErrConflict, store.ErrInvalid, store.ErrPermission, store.ErrUnavailable, ErrOff} {
		e := toError(err)
		data, _ := json.Marshal(e)
		got := &Error{}
		if jerr := json.Unmarshal(data, got); jerr != nil || !isSentinel(got, err) || e.Status < 400 {
			t.Errorf("%v became %s with status %d", err, data, e.Status)
		}
	}
	if e := toError(context.DeadlineExceeded); e.Status != 503 {
		t.Errorf("a deadline is %d", e.Status)
	}
}

func isSentinel(e *Error, want error) bool { return e.Unwrap() == want } //nolint:errorlint // the very sentinel
