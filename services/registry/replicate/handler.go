package replicate

import (
	"encoding/json"
	"net/http"

	services "github.com/orlop/orlop/services/registry"
)

// Path is where [Replicator.Handler] is served.
const Path = "/v2/_orlop/replication"

// Handler tells administrators how the rules are doing (GET), and looks at everything
// again by the one that the parameter rule names (POST). A nil auth lets everybody.
func (r *Replicator) Handler(auth services.Authorizer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.answer(w, req, auth); err != nil {
			services.Refuse(w, req, err)
		}
	})
}

func (r *Replicator) answer(w http.ResponseWriter, req *http.Request, auth services.Authorizer) error {
	if auth != nil {
		if _, err := auth.Authorize(req, services.Access{Repository: services.AdminRepository, Action: services.Delete}); err != nil {
			return err
		}
	}
	switch req.Method {
	case http.MethodGet:
	case http.MethodPost:
		name := req.URL.Query().Get("rule")
		if there, err := r.Survey(req.Context(), name); err != nil {
			return err
		} else if !there {
			return &services.Error{Status: http.StatusNotFound, Code: "UNKNOWN", Message: "there is no rule of that name"}
		}
	default:
		return &services.Error{Status: http.StatusMethodNotAllowed, Code: "UNSUPPORTED", Message: "this can be read by GET and started anew by POST"}
	}
	all, err := r.Status(req.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	return json.NewEncoder(w).Encode(map[string][]Status{"rules": all})
}
