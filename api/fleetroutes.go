package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/listener-agent/listener/status"
)

// fleet is made for each request: the federation can change by an accept.
func (s *Server) fleet() Fleet { return Fleet{Store: s.agent.Store(), Space: s.agent.Space()} }

func (s *Server) providerKeys(w http.ResponseWriter, r *http.Request) error {
	keys, err := s.fleet().Keys(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, keys)
}

// providersOf answers what the store has, with the time at which the agent
// saw each revision, of a key that it follows.
func (s *Server) providersOf(w http.ResponseWriter, r *http.Request) error {
	reveal, err := flag(r, "reveal")
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	ps, err := s.fleet().Providers(r.Context(), key, reveal)
	if err != nil {
		return err
	}
	seen, err := s.agent.SeenProviders(r.Context(), key)
	if err != nil {
		return err
	}
	for i := range ps {
		ps[i].Seen = seen[ps[i].Revision]
	}
	return reply(w, http.StatusOK, ps)
}

func (s *Server) nodes(w http.ResponseWriter, r *http.Request) error {
	ns, err := s.fleet().Nodes(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, ns)
}

func (s *Server) federation(w http.ResponseWriter, r *http.Request) error {
	f, err := s.fleet().All(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, f)
}

// Keys counts the entries of each key that has any, sorted.
func (c *Client) Keys(ctx context.Context) (keys []status.KeyProviders, err error) {
	return keys, c.call(ctx, "GET", "/v1/providers", nil, &keys)
}

// Providers are the entries of key; their values only with reveal.
func (c *Client) Providers(ctx context.Context, key string, reveal bool) (ps []status.Provider, err error) {
	path := "/v1/providers/" + url.PathEscape(key)
	if reveal {
		path += "?reveal=1"
	}
	return ps, c.call(ctx, "GET", path, nil, &ps)
}

// Nodes are the records of all nodes.
func (c *Client) Nodes(ctx context.Context) (ns []status.Node, err error) {
	return ns, c.call(ctx, "GET", "/v1/nodes", nil, &ns)
}

// All is what the federation has in the store, at one revision.
func (c *Client) All(ctx context.Context) (f status.Fleet, err error) {
	return f, c.call(ctx, "GET", "/v1/federation", nil, &f)
}
