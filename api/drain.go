package api

import (
	"context"
	"net/http"
)

// DrainRequest is the body of POST /v1/drain.
type DrainRequest struct {
	Reason string `json:"reason,omitempty"`
	Who    string `json:"who"`
}

func (s *Server) drain(w http.ResponseWriter, r *http.Request) error {
	var req DrainRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	if err := s.agent.Drain(r.Context(), who(r.Context(), req.Who), req.Reason); err != nil {
		return err
	}
	return reply(w, http.StatusOK, Switched{Changed: true})
}

func (s *Server) undrain(w http.ResponseWriter, r *http.Request) error {
	if err := decode(w, r, &struct{}{}); err != nil {
		return err
	}
	changed, err := s.agent.Undrain(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, Switched{Changed: changed})
}

// Drain takes what the node provides out of service.
func (c *Client) Drain(ctx context.Context, r DrainRequest) error {
	return c.call(ctx, "POST", "/v1/drain", r, nil)
}

// Undrain ends a drain; changed is false when there was none.
func (c *Client) Undrain(ctx context.Context) (changed bool, err error) {
	var out Switched
	err = c.call(ctx, "POST", "/v1/undrain", nil, &out)
	return out.Changed, err
}
