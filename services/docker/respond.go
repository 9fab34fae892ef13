package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/moby/moby/api/types/common"

	"github.com/orlop/orlop/services/engine"
)

// apiError is an error of this edge.
type apiError struct {
	text   string
	status int
}

// Error returns the text.
func (e *apiError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &apiError{fmt.Sprintf(format, args...), http.StatusBadRequest}
}

func notThere(format string, args ...any) error {
	return &apiError{fmt.Sprintf(format, args...), http.StatusNotImplemented}
}

// status is an error's class in HTTP's numbers.
func status(err error) int {
	var own *apiError
	switch {
	case errors.As(err, &own):
		return own.status
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsInvalidArgument(err), errdefs.IsOutOfRange(err):
		return http.StatusBadRequest
	case errdefs.IsConflict(err), errdefs.IsAlreadyExists(err), errdefs.IsFailedPrecondition(err):
		return http.StatusConflict
	case errdefs.IsUnauthorized(err):
		return http.StatusUnauthorized
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	case errdefs.IsNotModified(err):
		return http.StatusNotModified
	case errdefs.IsUnavailable(err):
		return http.StatusServiceUnavailable
	case errdefs.IsNotImplemented(err):
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// fail answers with an error.
func (c *call) fail(err error) {
	n := status(err)
	if n == http.StatusNotModified {
		c.w.WriteHeader(n)
		return
	}
	if n == http.StatusInternalServerError && c.r.Context().Err() == nil {
		log.L.WithError(err).Errorf("request %s %s", c.r.Method, c.r.URL.Path)
	}
	c.send(n, common.ErrorResponse{Message: err.Error()})
}

// send answers with JSON.
func (c *call) send(status int, v any) error {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	if c.r.Method == http.MethodHead {
		return nil
	}
	enc := json.NewEncoder(c.w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		log.L.WithError(err).Debug("an answer was not read")
	}
	return nil
}

// done answers that it was done.
func (c *call) done() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// body reads a request's JSON; an empty body is left as v is, if that may be.
func (c *call) body(v any, needed bool) error {
	r := http.MaxBytesReader(c.w, c.r.Body, maxBody)
	ct := c.r.Header.Get("Content-Type")
	if c.r.ContentLength == 0 && !needed {
		return nil
	}
	if ct == "" && c.r.ContentLength == 0 {
		return badRequest("the request has no body")
	}
	if t, _, err := mime.ParseMediaType(ct); err != nil || t != "application/json" {
		if ct != "" || c.r.ContentLength > 0 {
			return badRequest("unsupported Content-Type header (%s): must be 'application/json'", ct)
		}
	}
	dec := json.NewDecoder(r)
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) && !needed {
			return nil
		}
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			return &apiError{fmt.Sprintf("the body has more than %d bytes", large.Limit), http.StatusRequestEntityTooLarge}
		}
		return badRequest("invalid JSON: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badRequest("unexpected content after JSON")
	}
	return nil
}

// filters reads the parameter in both forms: {"label":["a"]} and {"label":{"a":true}}.
func (c *call) filters() (engine.Filters, error) {
	text := c.query("filters")
	if text == "" {
		return engine.Filters{}, nil
	}
	out := engine.Filters{}
	if err := json.Unmarshal([]byte(text), &out); err == nil {
		return out, nil
	}
	var old map[string]map[string]bool
	if err := json.Unmarshal([]byte(text), &old); err != nil {
		return nil, badRequest("invalid filters: %v", err)
	}
	out = engine.Filters{}
	for key, values := range old {
		for v, on := range values {
			if on {
				out[key] = append(out[key], v)
			}
		}
	}
	return out, nil
}

// flushed is a writer whose every write reaches the client at once.
type flushed struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func (c *call) flushed() *flushed { return &flushed{c.w, http.NewResponseController(c.w)} }

// Write writes and flushes.
func (f *flushed) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.c.Flush()
	}
	return n, err
}

// begin sends the headers before there is anything to say.
func (c *call) begin(contentType string) *flushed {
	c.w.Header().Set("Content-Type", contentType)
	c.w.WriteHeader(http.StatusOK)
	f := c.flushed()
	f.c.Flush()
	return f
}
