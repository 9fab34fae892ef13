package main

import (
	"encoding/base64"
	"encoding/json"
	"os"

	"github.com/orlop/orlop/cmd/internal/session"
)

// Keys of what BuildKit says of a result.
const (
	keyDigest = "containerimage.digest"
	keyConfig = "containerimage.config.digest"
)

// tell says what was made, where it was asked for.
func (f *flags) tell(s *session.Session, made map[string]string) error {
	id := made[keyDigest]
	if id == "" {
		id = made[keyConfig]
	}
	if f.quiet && id != "" {
		s.Printf("%s\n", id)
	}
	if f.idFile != "" {
		if err := os.WriteFile(f.idFile, []byte(id), 0o644); err != nil {
			return err
		}
	}
	if f.metadataFile == "" {
		return nil
	}
	data, err := json.MarshalIndent(metadata(made), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(f.metadataFile, append(data, '\n'), 0o644)
}

// metadata is a result with the JSON in it, which comes in base64.
func metadata(made map[string]string) map[string]any {
	out := map[string]any{}
	for key, value := range made {
		out[key] = value
		data, err := base64.StdEncoding.DecodeString(value)
		if err != nil || len(data) == 0 || data[0] != '{' && data[0] != '[' || !json.Valid(data) {
			continue
		}
		out[key] = json.RawMessage(data)
	}
	return out
}
