package metadata

import (
	"github.com/containerd/typeurl/v2"
)

// anyRecord is how a typed value is stored: as it came, undecoded.
type anyRecord struct {
	URL   string `json:"url"`
	Value []byte `json:"value,omitempty"`
}

// GetTypeUrl and GetValue make a record a typeurl.Any.
func (a *anyRecord) GetTypeUrl() string { return a.URL } //nolint:staticcheck // typeurl's name
func (a *anyRecord) GetValue() []byte   { return a.Value }

func storeAny(a typeurl.Any) *anyRecord {
	if a == nil {
		return nil
	}
	return &anyRecord{a.GetTypeUrl(), a.GetValue()}
}

func loadAny(a *anyRecord) typeurl.Any {
	if a == nil {
		return nil
	}
	return a
}

func storeAnys(m map[string]typeurl.Any) map[string]*anyRecord {
	out := make(map[string]*anyRecord, len(m))
	for k, v := range m {
		out[k] = storeAny(v)
	}
	return out
}

func loadAnys(m map[string]*anyRecord) map[string]typeurl.Any {
	out := make(map[string]typeurl.Any, len(m))
	for k, v := range m {
		out[k] = loadAny(v)
	}
	return out
}

// mergeAnys sets or, where the update has none, removes one extension.
func mergeAnys(old, update map[string]typeurl.Any, key string) map[string]typeurl.Any {
	out := make(map[string]typeurl.Any, len(old)+1)
	for k, v := range old {
		out[k] = v
	}
	if v, ok := update[key]; ok {
		out[key] = v
	} else {
		delete(out, key)
	}
	return out
}
