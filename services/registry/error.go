package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"github.com/orlop/orlop/core/registry"
)

// Codes of errors, from the spec's section "Error Codes".
const (
	codeBlobUnknown         = "BLOB_UNKNOWN"
	codeBlobUploadInvalid   = "BLOB_UPLOAD_INVALID"
	codeBlobUploadUnknown   = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid       = "DIGEST_INVALID"
	codeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	codeManifestInvalid     = "MANIFEST_INVALID"
	codeManifestUnknown     = "MANIFEST_UNKNOWN"
	codeNameInvalid         = "NAME_INVALID"
	codeNameUnknown         = "NAME_UNKNOWN"
	codeSizeInvalid         = "SIZE_INVALID"
	codeUnauthorized        = "UNAUTHORIZED"
	codeDenied              = "DENIED"
	codeUnsupported         = "UNSUPPORTED"
	codeTooManyRequests     = "TOOMANYREQUESTS"
	codeTagInvalid          = "TAG_INVALID" // not the spec's, but distribution's
	codeUnknown             = "UNKNOWN"
)

// Error is an answer that says no.
type Error struct {
	Status  int    // of HTTP
	Code    string // of the spec
	Message string
	Detail  any
	// Header is added to the answer's.
	Header http.Header
}

// Error returns code and text.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func fail(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Unauthorized refuses somebody who may get further with other credentials, which a
// WWW-Authenticate header asks for.
func Unauthorized(challenge, message string) *Error {
	e := fail(http.StatusUnauthorized, codeUnauthorized, "%s", message)
	e.Header = http.Header{"Www-Authenticate": {challenge}}
	return e
}

// Denied refuses somebody who is known.
func Denied(format string, args ...any) *Error {
	return fail(http.StatusForbidden, codeDenied, format, args...)
}

// explain gives an error of the stores the form of the API; code is for what isn't
// there.
func explain(err error, code string) *Error {
	var own *Error
	var missing *registry.MissingError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &missing):
		e := fail(http.StatusNotFound, codeManifestBlobUnknown, "%v; push them first", err)
		e.Detail = map[string]any{"blobs": missing.Blobs, "manifests": missing.Manifests}
		return e
	case errdefs.IsNotFound(err):
		return fail(http.StatusNotFound, code, "%v", err)
	case errdefs.IsInvalidArgument(err), errdefs.IsOutOfRange(err):
		return fail(http.StatusBadRequest, codeNameInvalid, "%v", err)
	case errdefs.IsAlreadyExists(err), errdefs.IsFailedPrecondition(err), errdefs.IsConflict(err):
		return fail(http.StatusConflict, codeDenied, "%v", err)
	case errdefs.IsPermissionDenied(err):
		return fail(http.StatusForbidden, codeDenied, "%v", err)
	case errdefs.IsResourceExhausted(err):
		return fail(http.StatusTooManyRequests, codeTooManyRequests, "%v", err)
	case errdefs.IsUnavailable(err):
		return fail(http.StatusServiceUnavailable, codeUnknown, "%v", err)
	}
	return fail(http.StatusInternalServerError, codeUnknown, "%v", err)
}

// Refuse answers with an error, in the form of the API.
func Refuse(w http.ResponseWriter, req *http.Request, err error) {
	refuse(w, req, explain(err, codeUnknown))
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, req *http.Request, e *Error) {
	if e.Status >= http.StatusInternalServerError {
		log.G(req.Context()).WithError(e).Errorf("registry: %s %s", req.Method, req.URL.Path)
	}
	for key, values := range e.Header {
		w.Header()[key] = values
	}
	if req.Method == http.MethodHead {
		w.WriteHeader(e.Status)
		return
	}
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	body, err := json.Marshal(map[string][]item{"errors": {{e.Code, e.Message, e.Detail}}})
	if err != nil {
		body = []byte(`{"errors":[{"code":"UNKNOWN","message":"the error itself can't be shown"}]}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(e.Status)
	w.Write(body)
}
