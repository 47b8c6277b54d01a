package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/listener-agent/listener/status"
)

// dialTimeout bounds connecting; answers are bounded by the caller's context.
const dialTimeout = 2 * time.Second

// Client speaks to an agent. It may be used from many goroutines.
type Client struct {
	socket string
	http   *http.Client
}

// Dial connects once, to say now whether an agent answers: ErrNoAgent if not.
func Dial(socket string) (*Client, error) {
	d := net.Dialer{Timeout: dialTimeout}
	c := &Client{socket: socket}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	conn, err := d.Dial("unix", socket)
	if err != nil {
		return nil, c.unreachable(err)
	}
	return c, conn.Close()
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Socket is where the agent answers.
func (c *Client) Socket() string { return c.socket }

func (c *Client) unreachable(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return fmt.Errorf("%w on %s: %w", ErrNoAgent, c.socket, err)
}

// Status asks for the agent's status.
func (c *Client) Status(ctx context.Context) (st status.Status, err error) {
	return st, c.call(ctx, "GET", "/v1/status", nil, &st)
}

// Explain asks why a run will or will not happen now.
func (c *Client) Explain(ctx context.Context) (ex status.Explain, err error) {
	return ex, c.call(ctx, "GET", "/v1/explain", nil, &ex)
}

// On switches a lane on ("" both); changed is false if it was on already.
func (c *Client) On(ctx context.Context, lane string) (changed bool, err error) {
	var out Switched
	err = c.call(ctx, "POST", "/v1/on", OnRequest{Lane: lane}, &out)
	return out.Changed, err
}

// Off switches off.
func (c *Client) Off(ctx context.Context, r OffRequest) error {
	return c.call(ctx, "POST", "/v1/off", r, nil)
}

// Provision forces a run and returns when it is queued.
func (c *Client) Provision(ctx context.Context, r ProvisionRequest) (q status.Queued, err error) {
	return q, c.call(ctx, "POST", "/v1/provision", r, &q)
}

// ProvisionWait forces a run and returns when it has ended.
func (c *Client) ProvisionWait(ctx context.Context, r ProvisionRequest) (run status.Run, err error) {
	return run, c.call(ctx, "POST", "/v1/provision?wait=1", r, &run)
}

// Once waits until nothing is due or a gate holds it.
func (c *Client) Once(ctx context.Context) (d Done, err error) {
	return d, c.call(ctx, "POST", "/v1/once", nil, &d)
}

// Accept takes what is held: one key, or "" for everything.
func (c *Client) Accept(ctx context.Context, key string) (a status.Accepted, err error) {
	return a, c.call(ctx, "POST", "/v1/accept", AcceptRequest{Key: key}, &a)
}

// Reload reads settings, manifests and attributes again.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, "POST", "/v1/reload", nil, nil)
}

// Runs lists the newest runs first; n 0 means all.
func (c *Client) Runs(ctx context.Context, n int) (runs []status.Run, err error) {
	return runs, c.call(ctx, "GET", "/v1/runs?n="+strconv.Itoa(n), nil, &runs)
}

// Run returns one run.
func (c *Client) Run(ctx context.Context, id string) (run status.Run, err error) {
	return run, c.call(ctx, "GET", "/v1/runs/"+url.PathEscape(id), nil, &run)
}

// Log opens a run's output ("" the newest run's) and says which run it is;
// with follow it ends when the run ends. The caller closes it.
func (c *Client) Log(ctx context.Context, id string, follow bool) (log io.ReadCloser, run string, err error) {
	if id == "" {
		id = "latest"
	}
	path := "/v1/runs/" + url.PathEscape(id) + "/log"
	if follow {
		path += "?follow=1"
	}
	resp, err := c.send(ctx, "GET", path, nil)
	if err != nil {
		return nil, "", err
	}
	return resp.Body, resp.Header.Get("Listener-Run"), nil
}

// Resolve returns the variables of one service.
func (c *Client) Resolve(ctx context.Context, service string, reveal bool) (vars []status.Resolved, err error) {
	path := "/v1/services/" + url.PathEscape(service)
	if reveal {
		path += "?reveal=1"
	}
	return vars, c.call(ctx, "GET", path, nil, &vars)
}

// Events calls fn for every event until ctx ends, the agent goes or fn
// returns an error.
func (c *Client) Events(ctx context.Context, fn func(status.Event) error) error {
	return c.stream(ctx, "/v1/events", func(_ string, data []byte) error {
		var ev status.Event
		if err := json.Unmarshal(data, &ev); err != nil {
			return err
		}
		return fn(ev)
	})
}

// call sends in as JSON (nil: no body) and reads the answer into out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("answer of %s: %w", path, err)
	}
	return nil
}

// send makes an Error of every answer that is not a success.
func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://listener"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, c.unreachable(err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	e := &Error{}
	if json.Unmarshal(data, e) != nil || e.Text == "" {
		e.Text = resp.Status + ": " + strings.TrimSpace(string(data))
	}
	e.Status = resp.StatusCode
	return nil, e
}

// stream reads server-sent events: name and data of each.
func (c *Client) stream(ctx context.Context, path string, fn func(name string, data []byte) error) error {
	resp, err := c.send(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	return c.read(ctx, resp, fn)
}

// read calls fn for the events of an answer until it ends.
func (c *Client) read(ctx context.Context, resp *http.Response, fn func(name string, data []byte) error) error {
	defer func() { _ = resp.Body.Close() }()
	var name string
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return c.unreachable(err)
		}
		if text, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			name = string(bytes.TrimSpace(text))
		}
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue
		}
		if name == "error" {
			e := &Error{}
			return errors.Join(json.Unmarshal(data, e), e)
		}
		if err := fn(name, data); err != nil {
			return err
		}
	}
}
