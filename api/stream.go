package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// followEvery is how often a log that grows is looked at.
const followEvery = 100 * time.Millisecond

// stream writes server-sent events (WHATWG HTML, 9.2).
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	s := &stream{w: w, rc: http.NewResponseController(w)}
	w.WriteHeader(http.StatusOK)
	_ = s.rc.Flush() // the headers: the client knows that it is connected
	return s
}

// send writes one event; the error means that the reader is gone.
func (s *stream) send(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// A recorder in a test knows no deadlines; a connection does.
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", name, data); err != nil {
		return err
	}
	return s.rc.Flush()
}

// end tells the reader why the stream is over. The headers are sent, so an
// error cannot be a status any more.
func (s *stream) end(err error) error {
	if err != nil && !errors.Is(err, context.Canceled) {
		_ = s.send("error", toError(err))
	}
	return nil
}

// events streams what happens on the node until the client goes.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	events := s.agent.Subscribe(r.Context())
	out := newStream(w)
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return nil
			}
			if err := out.send(ev.Name, ev); err != nil {
				return nil
			}
		case <-r.Context().Done():
			return nil
		}
	}
}

// runLog answers a run's output; "latest" is the newest run. With ?follow=1
// it goes on until the run has ended.
func (s *Server) runLog(w http.ResponseWriter, r *http.Request) error {
	follow, err := flag(r, "follow")
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	if id == "latest" {
		id = ""
	}
	log, run, err := s.agent.OpenLog(r.Context(), id)
	if err != nil {
		return noRun(id, err)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Listener-Run", run)
	w.WriteHeader(http.StatusOK)
	t := tail{log: log, w: w, rc: http.NewResponseController(w)}
	if !follow {
		_ = t.copy()
		return nil
	}
	s.follow(r.Context(), &t, run)
	return nil
}

// follow copies until the run has ended, then what came last.
func (s *Server) follow(ctx context.Context, t *tail, id string) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		run, err := s.agent.ShowRun(ctx, id)
		ended := err != nil || run.Result != ""
		if t.copy() != nil || ended {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// tail copies what was added to a log since the last copy.
type tail struct {
	log io.Reader
	w   io.Writer
	rc  *http.ResponseController
}

// copy returns an error when the reader is gone.
func (t *tail) copy() error {
	_ = t.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := io.Copy(t.w, t.log); err != nil {
		return err
	}
	return t.rc.Flush()
}
