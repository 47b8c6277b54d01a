package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Value returns one value, or store.ErrNotFound.
func (c *Client) Value(ctx context.Context, region, key string) (Value, error) {
	if err := CheckKey(key); err != nil {
		return Value{}, err
	}
	resp, err := c.send(ctx, "GET", "/v1/values/"+key+"?"+url.Values{"region": {region}}.Encode(), nil)
	if err != nil {
		return Value{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return Value{}, err
	}
	version, err := strconv.ParseUint(strings.Trim(resp.Header.Get("ETag"), `"`), 10, 64)
	return Value{Key: key, Region: region, Value: string(data), Version: version}, err
}

// Values lists the values whose key begins with prefix, sorted by key.
func (c *Client) Values(ctx context.Context, region, prefix string) (list ValueList, err error) {
	q := url.Values{"region": {region}, "prefix": {prefix}}
	return list, c.call(ctx, "GET", "/v1/values?"+q.Encode(), nil, &list)
}

// Commit applies all ops or none and returns the new revision.
func (c *Client) Commit(ctx context.Context, region string, ops []ValueOp) (uint64, error) {
	var out Committed
	ops = slices.Clone(ops)
	for i, op := range ops {
		if !utf8.ValidString(op.Value) { // JSON would replace what is not text
			ops[i].Base64, ops[i].Value = []byte(op.Value), ""
		}
	}
	err := c.call(ctx, http.MethodPost, "/v1/values", commitRequest{Region: region, Ops: ops}, &out)
	return out.Version, err
}

// Watch calls fn for the present state and then for every change until ctx
// ends, the agent goes or fn returns an error.
func (c *Client) Watch(ctx context.Context, region, prefix string, fn func(ValueUpdate) error) error {
	q := url.Values{"region": {region}, "prefix": {prefix}, "watch": {"1"}}
	return c.stream(ctx, "/v1/values?"+q.Encode(), func(_ string, data []byte) error {
		var u ValueUpdate
		if err := json.Unmarshal(data, &u); err != nil {
			return err
		}
		return fn(u)
	})
}
