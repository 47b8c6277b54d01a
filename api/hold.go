package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/listener-agent/listener/status"
)

// HoldRequest is the body of POST /v1/hold.
type HoldRequest struct {
	Who     string `json:"who"`
	Service string `json:"service,omitempty"`
	// Command is its name, without arguments: they may be secrets.
	Command string `json:"command"`
	// PID of who holds; what the kernel says of the connection comes first.
	PID int `json:"pid,omitempty"`
}

// Held is the event of POST /v1/hold: from now on no run starts.
type Held struct {
	Held bool `json:"held"`
}

// hold keeps provisions away for as long as the connection is open: a client
// that is killed lets go of it.
func (s *Server) hold(w http.ResponseWriter, r *http.Request) error {
	var req HoldRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	if req.Command == "" {
		return invalid("say which command it is for", "command is empty")
	}
	req.Who = who(r.Context(), req.Who)
	if pid := peerPID(r.Context()); pid > 0 {
		req.PID = pid
	}
	out := newStream(w)
	if err := out.send("waiting", Held{}); err != nil {
		return nil
	}
	return out.end(s.agent.Hold(r.Context(), req, func() error { return out.send("held", Held{Held: true}) }))
}

// environment answers a service's environment, with ?follow=1 a stream of it.
func (s *Server) environment(w http.ResponseWriter, r *http.Request) error {
	follow, err := flag(r, "follow")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	env, err := s.agent.Environment(ctx, r.PathValue("id"))
	if err != nil {
		return err
	}
	if !follow {
		return reply(w, http.StatusOK, env)
	}
	out := newStream(w)
	return out.end(s.agent.FollowEnvironment(r.Context(), r.PathValue("id"), func(env status.Environment) error {
		return out.send("environment", env)
	}))
}

// Environment is that of a service as it is now.
func (c *Client) Environment(ctx context.Context, service string) (env status.Environment, err error) {
	return env, c.call(ctx, "GET", "/v1/services/"+url.PathEscape(service)+"/environment", nil, &env)
}

// FollowEnvironment calls fn for the present environment and for every change
// until ctx ends, the agent goes or fn returns an error.
func (c *Client) FollowEnvironment(ctx context.Context, service string, fn func(status.Environment) error) error {
	return c.stream(ctx, "/v1/services/"+url.PathEscape(service)+"/environment?follow=1", func(_ string, data []byte) error {
		var env status.Environment
		if err := json.Unmarshal(data, &env); err != nil {
			return err
		}
		return fn(env)
	})
}

// Hold keeps provisions away until ctx ends or the agent goes, and calls held
// once no run is in progress any more.
func (c *Client) Hold(ctx context.Context, r HoldRequest, held func()) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, "POST", "/v1/hold", body)
	if err != nil {
		return err
	}
	return c.read(ctx, resp, func(name string, _ []byte) error {
		if name == "held" {
			held()
		}
		return nil
	})
}
