package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"hotdesk/protocol/adminapi"
)

// maxAnswer bounds an answer of the gateway, in bytes.
const maxAnswer = 64 << 20

// A client asks a gateway.
type client struct {
	path string
	http http.Client
}

func newClient(path string) *client {
	c := &client{path: path}
	c.http.Transport = &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}
	return c
}

// open sends a request and returns the body of its answer.
func (c *client) open(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	switch v := in.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(v)
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://hotdesk"+adminapi.Prefix+path, body)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, c.away(err)
	}
	if answer.StatusCode != http.StatusOK {
		defer answer.Body.Close()
		var e adminapi.Error
		b, err := io.ReadAll(io.LimitReader(answer.Body, adminapi.MaxBody))
		if err != nil || json.Unmarshal(b, &e) != nil || e.Text == "" {
			return nil, fmt.Errorf("the server answered %s, which is none of its errors: are both programs of the same version?", answer.Status)
		}
		return nil, e
	}
	return answer.Body, nil
}

// away says why there is no answer.
func (c *client) away(err error) error {
	e := adminapi.Error{Code: adminapi.CodeAway}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Text = fmt.Sprintf("no server has its socket at %s: start server, or name its -runtime", c.path)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Text = fmt.Sprintf("no server answers at %s: start it", c.path)
	case errors.Is(err, fs.ErrPermission):
		e.Code, e.Text = adminapi.CodeDenied, fmt.Sprintf("only root, and the members of the server's -admin-group, may use %s: use sudo", c.path)
	default:
		e.Text = fmt.Sprintf("the server at %s does not answer: %v", c.path, err)
	}
	return e
}

// raw asks and returns the answer as it is.
func (c *client) raw(ctx context.Context, method, path string, in any) ([]byte, error) {
	body, err := c.open(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	if err != nil {
		return nil, c.away(err)
	}
	return b, nil
}

// ask asks and reads the answer into out.
func (c *client) ask(ctx context.Context, method, path string, in, out any) error {
	b, err := c.raw(ctx, method, path, in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("the server's answer cannot be read: are both programs of the same version? %w", err)
	}
	return nil
}
