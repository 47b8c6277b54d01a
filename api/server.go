package api

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxBody       = 1 << 20
	headerTimeout = 5 * time.Second
	bodyTimeout   = 10 * time.Second
	// answerTimeout bounds what asks the store or the agent once; waits and
	// streams are not bounded.
	answerTimeout = 15 * time.Second
	// writeTimeout bounds one event to a reader that does not read.
	writeTimeout = 30 * time.Second
	// stopTimeout is how long Serve waits for answers in progress.
	stopTimeout = 2 * time.Second
)

//go:embed openapi.json
var openAPI []byte

// Options of New.
type Options struct {
	Agent Agent // required
	// Failed is told of each request that got an error, from any goroutine;
	// nil: nobody is. It must not block.
	Failed func(method, path string, status int, text string)
}

// Server answers on the agent's socket. Who may connect is decided by the
// mode and group of the socket alone: whoever can open it may do everything.
type Server struct {
	agent  Agent
	failed func(method, path string, status int, text string)
	mux    *http.ServeMux

	mu sync.Mutex
	// wrote is guarded by mu: the revision of each write through this server
	// that the agent's replica has not shown yet, so that a reader sees it.
	wrote map[string]uint64
}

// route is one line of the API; openapi.json describes the same set.
type route struct {
	method, path string
	handle       func(http.ResponseWriter, *http.Request) error
	// long: a stream or a wait, not bounded by answerTimeout.
	long bool
}

// New wires the routes.
func New(o Options) *Server {
	if o.Failed == nil {
		o.Failed = func(string, string, int, string) {}
	}
	s := &Server{agent: o.Agent, failed: o.Failed, mux: http.NewServeMux(), wrote: map[string]uint64{}}
	for _, r := range s.routes() {
		s.mux.Handle(r.method+" "+r.path, s.answer(r))
	}
	return s
}

func (s *Server) routes() []route {
	return []route{
		{method: "GET", path: "/v1/values", handle: s.listValues, long: true},
		{method: "POST", path: "/v1/values", handle: s.commitValues},
		{method: "GET", path: "/v1/values/{key}", handle: s.readValue},
		{method: "PUT", path: "/v1/values/{key}", handle: s.putValue},
		{method: "DELETE", path: "/v1/values/{key}", handle: s.deleteValue},
		{method: "GET", path: "/v1/status", handle: s.status},
		{method: "GET", path: "/v1/explain", handle: s.explain},
		{method: "POST", path: "/v1/on", handle: s.on},
		{method: "POST", path: "/v1/off", handle: s.off},
		{method: "POST", path: "/v1/drain", handle: s.drain},
		{method: "POST", path: "/v1/undrain", handle: s.undrain},
		{method: "POST", path: "/v1/provision", handle: s.provision, long: true},
		{method: "POST", path: "/v1/once", handle: s.once, long: true},
		{method: "POST", path: "/v1/accept", handle: s.accept},
		{method: "POST", path: "/v1/reload", handle: s.reload},
		{method: "GET", path: "/v1/runs", handle: s.runs},
		{method: "GET", path: "/v1/runs/{id}", handle: s.run},
		{method: "GET", path: "/v1/runs/{id}/log", handle: s.runLog, long: true},
		{method: "GET", path: "/v1/services/{id}", handle: s.service},
		{method: "GET", path: "/v1/services/{id}/environment", handle: s.environment, long: true},
		{method: "POST", path: "/v1/hold", handle: s.hold, long: true},
		{method: "GET", path: "/v1/providers", handle: s.providerKeys},
		{method: "GET", path: "/v1/providers/{key}", handle: s.providersOf},
		{method: "GET", path: "/v1/nodes", handle: s.nodes},
		{method: "GET", path: "/v1/federation", handle: s.federation},
		{method: "GET", path: "/v1/events", handle: s.events, long: true},
		{method: "GET", path: "/v1/openapi.json", handle: s.openapi},
		{method: "GET", path: "/healthz", handle: s.healthz},
		{method: "GET", path: "/readyz", handle: s.readyz},
		{method: "GET", path: "/metrics", handle: s.metrics},
	}
}

// Serve answers until ctx ends, then ends streams and waits, lets answers in
// progress finish for a moment and closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	hs := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       peerContext,
		ErrorLog:          log.New(io.Discard, "", 0), // of broken connections: nobody's concern
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := hs.Shutdown(late); err != nil {
			err = hs.Close()
			stopped <- err
			return
		}
		stopped <- nil
	})
	err := hs.Serve(ln)
	if stop() { // it ended by itself: the listener broke
		return errors.Join(err, hs.Close())
	}
	return <-stopped
}

// ServeHTTP answers one request; what no route takes gets JSON as well.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := s.mux.Handler(r); pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	if allow := s.allowed(r); allow != "" {
		w.Header().Set("Allow", allow)
		s.fail(w, r, &Error{Status: http.StatusMethodNotAllowed, Code: "method", Text: r.Method + " is not for " + r.URL.Path, Hint: "it takes " + allow})
		return
	}
	s.fail(w, r, &Error{Status: http.StatusNotFound, Code: "no_route", Text: "there is no " + r.URL.Path, Hint: "GET /v1/openapi.json lists what there is"})
}

// allowed lists the methods of a path.
func (s *Server) allowed(r *http.Request) string {
	var out []string
	for _, m := range []string{"GET", "POST", "PUT", "DELETE"} {
		probe := &http.Request{Method: m, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); pattern != "" {
			out = append(out, m)
		}
	}
	return strings.Join(out, ", ")
}

func (s *Server) answer(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !rt.long {
			ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
			defer cancel()
			r = r.WithContext(ctx)
		}
		if err := rt.handle(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := toError(err)
	s.failed(r.Method, r.URL.Path, e.Status, e.Text)
	w.Header().Del("ETag")
	_ = reply(w, e.Status, e)
}

// reply writes v as indented JSON: people read it with curl.
func reply(w http.ResponseWriter, code int, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n')) // the client is gone: nobody to tell
	return nil
}

// body reads the whole bounded body within bodyTimeout.
func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	rc := http.NewResponseController(w)
	// A recorder in a test knows no deadlines; a connection does.
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, big := errors.AsType[*http.MaxBytesError](err); big {
		return nil, &Error{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Text: "the body is larger than 1 MiB"}
	}
	if err != nil {
		return nil, invalid("", "read the body: %v", err)
	}
	return data, nil
}

// decode reads a JSON body strictly; an empty body leaves v as it is.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	data, err := body(w, r)
	if err != nil || len(data) == 0 {
		return err
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return invalid("GET /v1/openapi.json describes the body", "the body is not what this route takes: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("send one JSON value", "there is text after the JSON value")
	}
	return nil
}
