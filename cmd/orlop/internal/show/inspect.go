package show

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"text/template"

	"github.com/docker/cli/templates"

	"github.com/orlop/orlop/cmd/internal/session"
)

// codeTemplate is the exit code of a template that can't be read, as docker's.
const codeTemplate = 64

// Find fetches a thing by its reference: its Go value, for templates, and the JSON
// as the engine sent it, which may be nil.
type Find func(ref string) (value any, raw []byte, err error)

// Inspect prints what find returns of each reference: a JSON array, with format
// "json" a line each, else what the template makes of it. What isn't found doesn't
// keep the rest from being printed.
func Inspect(s *session.Session, refs []string, format string, find Find) error {
	var tmpl *template.Template
	if format != "" && format != "json" {
		var err error
		if tmpl, err = templates.Parse(format); err != nil {
			return session.Status{Code: codeTemplate, Reason: "template parsing error: " + err.Error()}
		}
		tmpl = printBlanks(tmpl)
	}
	found := []json.RawMessage{}
	var failed []error
	for _, ref := range refs {
		value, raw, err := find(ref)
		if err == nil && raw == nil {
			raw, err = json.Marshal(value)
		}
		if err == nil && tmpl != nil {
			err = execute(s, tmpl, value, raw)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		found = append(found, raw)
	}
	if tmpl == nil {
		if err := printJSON(s, found, format == "json"); err != nil {
			return err
		}
	}
	if err := errors.Join(failed...); err != nil {
		return session.Status{Code: 1, Reason: session.Message(err)}
	}
	return nil
}

// execute fills the template from the typed value, or, if that lacks a field, from
// what the engine sent, which may know more than this program.
func execute(s *session.Session, tmpl *template.Template, value any, raw []byte) error {
	var out bytes.Buffer
	if err := tmpl.Execute(&out, value); err != nil {
		var loose any
		in := json.NewDecoder(bytes.NewReader(raw))
		in.UseNumber()
		out.Reset()
		if in.Decode(&loose) != nil || tmpl.Option("missingkey=error").Execute(&out, loose) != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
	}
	out.WriteByte('\n')
	_, err := s.Out.Write(out.Bytes())
	return err
}

func printJSON(s *session.Session, found []json.RawMessage, lines bool) error {
	var out bytes.Buffer
	if lines {
		for _, raw := range found {
			if err := json.Compact(&out, raw); err != nil {
				return err
			}
			out.WriteByte('\n')
		}
	} else {
		data, err := json.MarshalIndent(found, "", "    ")
		if err != nil {
			return err
		}
		out.Write(append(data, '\n'))
	}
	_, err := s.Out.Write(out.Bytes())
	return err
}
