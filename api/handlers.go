package api

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"github.com/listener-agent/listener/status"
)

// Switched is the answer of POST /v1/on.
type Switched struct {
	// Changed is false when it was on already.
	Changed bool `json:"changed"`
}

// OnRequest is the body of POST /v1/on.
type OnRequest struct {
	Lane string `json:"lane,omitempty"` // "" both, provision, balancer
}

// AcceptRequest is the body of POST /v1/accept.
type AcceptRequest struct {
	Key string `json:"key,omitempty"` // "": everything that is held
}

// Done is the answer of POST /v1/once: what ran, and the gate that holds what
// did not.
type Done struct {
	Runs []status.Run `json:"runs"`
	Held string       `json:"held,omitempty"`
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	st, err := s.agent.Status(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, st)
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) error {
	ex, err := s.agent.Explain(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, ex)
}

func (s *Server) on(w http.ResponseWriter, r *http.Request) error {
	var req OnRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	if err := checkLane(req.Lane); err != nil {
		return err
	}
	changed, err := s.agent.On(r.Context(), req.Lane)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, Switched{Changed: changed})
}

func (s *Server) off(w http.ResponseWriter, r *http.Request) error {
	var req OffRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	if err := checkLane(req.Lane); err != nil {
		return err
	}
	if req.For < 0 {
		return invalid("", "for is negative")
	}
	req.Who = who(r.Context(), req.Who)
	if err := s.agent.Off(r.Context(), req); err != nil {
		return err
	}
	return reply(w, http.StatusOK, Switched{Changed: true})
}

func checkLane(lane string) error {
	switch lane {
	case "", "provision", "balancer":
		return nil
	}
	return invalid("a lane is provision or balancer; none means both", "there is no lane %q", lane)
}

// provision answers 202 with the ticket, or with ?wait=1 the run that carried
// the request out.
func (s *Server) provision(w http.ResponseWriter, r *http.Request) error {
	var req ProvisionRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	wait, err := flag(r, "wait")
	if err != nil {
		return err
	}
	req.Who = who(r.Context(), req.Who)
	q, err := s.agent.Provision(r.Context(), req)
	if err != nil {
		return err
	}
	if !wait {
		return reply(w, http.StatusAccepted, q)
	}
	run, err := s.agent.WaitRun(r.Context(), q.Ticket)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, run)
}

func (s *Server) once(w http.ResponseWriter, r *http.Request) error {
	if err := decode(w, r, &struct{}{}); err != nil {
		return err
	}
	runs, held, err := s.agent.WaitDue(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, Done{Runs: notNil(runs), Held: held})
}

func (s *Server) accept(w http.ResponseWriter, r *http.Request) error {
	var req AcceptRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	a, err := s.agent.Accept(r.Context(), req.Key)
	if err != nil {
		return err
	}
	a.Changed = notNil(a.Changed)
	return reply(w, http.StatusOK, a)
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) error {
	if err := decode(w, r, &struct{}{}); err != nil {
		return err
	}
	if err := s.agent.Reload(r.Context()); err != nil {
		e := toError(err)
		if e.Code == "internal" { // a bad file, not a broken agent
			e.Status, e.Code, e.Hint = http.StatusBadRequest, "settings", "nothing was changed; `listener check` shows every problem"
		}
		return e
	}
	return reply(w, http.StatusOK, Switched{Changed: true})
}

func (s *Server) runs(w http.ResponseWriter, r *http.Request) error {
	n := 0
	if text := r.URL.Query().Get("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			return invalid("n is a count, 0 for all", "n=%s is not a count", text)
		}
	}
	runs, err := s.agent.Runs(r.Context(), n)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, notNil(runs))
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) error {
	run, err := s.agent.ShowRun(r.Context(), r.PathValue("id"))
	if err != nil {
		return noRun(r.PathValue("id"), err)
	}
	return reply(w, http.StatusOK, run)
}

// noRun is a 404 for a record that is not on disk.
func noRun(id string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{Status: http.StatusNotFound, Code: "not_found", Text: "run " + id + ": not found", Hint: "`listener runs -n 0` lists those that are kept"}
	}
	return err
}

func (s *Server) service(w http.ResponseWriter, r *http.Request) error {
	reveal, err := flag(r, "reveal")
	if err != nil {
		return err
	}
	vars, err := s.agent.Resolve(r.Context(), r.PathValue("id"), reveal)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, notNil(vars))
}

func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
	return nil
}

// healthz: the agent's loop answers.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if _, err := s.agent.Status(ctx); err != nil {
		return &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", Text: "the agent does not answer: " + err.Error()}
	}
	return reply(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readyz: the agent has a picture of the store, be it from its replica.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	st, err := s.agent.Status(r.Context())
	if err != nil {
		return err
	}
	if st.Store.State == "waiting" {
		return &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", Text: "waiting for the store: " + st.Store.Error}
	}
	return reply(w, http.StatusOK, map[string]string{"status": "ok", "store": st.Store.State})
}

// flag reads a yes-or-no query parameter.
func flag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, invalid("give 1 or 0", "%s=%s is neither yes nor no", name, text)
	}
	return b, nil
}

// notNil makes an empty list [] in JSON, not null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
