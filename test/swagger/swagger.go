// Package swagger checks requests and answers of an HTTP API against its Swagger 2.0
// file: that the operation is there, its parameters, the status, and the form of
// bodies. It knows what the Docker Engine API's file uses and no more.
//
// A Spec is read once and not changed; it is safe for concurrent use.
package swagger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// node is a part of the file.
type node map[string]any

// Spec is a Swagger file.
type Spec struct {
	// Open lets objects have properties that the file does not know: those of old
	// versions leave many out.
	Open bool
	root node
	ops  []*Operation
}

// Operation is one method of one path.
type Operation struct {
	// ID is its operationId, Method in capitals, Path with {names}.
	ID, Method, Path string
	pattern          *regexp.Regexp
	parts            node
}

// String is the operation as it is called.
func (o *Operation) String() string { return o.Method + " " + o.Path }

// Load reads a file.
func Load(path string) (*Spec, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(data)
}

// Parse reads a file's text.
func Parse(data []byte) (*Spec, error) {
	s := &Spec{}
	if err := yaml.Unmarshal(data, &s.root); err != nil {
		return nil, err
	}
	if s.root["swagger"] != "2.0" {
		return nil, fmt.Errorf("not Swagger 2.0 but %v", s.root["swagger"])
	}
	variable := regexp.MustCompile(`\\\{[a-z]+\\\}`)
	for path, methods := range s.root.at("paths") {
		// A name may have slashes: that of an image or a plugin.
		pattern := variable.ReplaceAllString(regexp.QuoteMeta(path), `.+`)
		for method, parts := range asNode(methods) {
			o := &Operation{Method: strings.ToUpper(method), Path: path, pattern: regexp.MustCompile("^" + pattern + "$"), parts: asNode(parts)}
			o.ID, _ = o.parts["operationId"].(string)
			s.ops = append(s.ops, o)
		}
	}
	slices.SortFunc(s.ops, func(a, b *Operation) int {
		if d := strings.Compare(a.Path, b.Path); d != 0 {
			return d
		}
		return strings.Compare(a.Method, b.Method)
	})
	return s, nil
}

func asNode(v any) node {
	switch v := v.(type) {
	case node:
		return v
	case map[string]any:
		return v
	case map[any]any: // its keys are numbers
		out := node{}
		for k, v := range v {
			out[fmt.Sprint(k)] = v
		}
		return out
	}
	return nil
}

// at goes down.
func (n node) at(keys ...string) node {
	for _, k := range keys {
		n = asNode(n[k])
	}
	return n
}

func (n node) text(key string) string { s, _ := n[key].(string); return s }

func (n node) flag(key string) bool { b, _ := n[key].(bool); return b }

// Operations lists all, by path and method.
func (s *Spec) Operations() []*Operation { return s.ops }

// Find returns the operation of a request; nil if there is none. Of several the one
// with the fewest variables is meant.
func (s *Spec) Find(method, path string) *Operation {
	var best *Operation
	for _, o := range s.ops {
		if o.Method != method || !o.pattern.MatchString(path) {
			continue
		}
		if best == nil || strings.Count(o.Path, "{") < strings.Count(best.Path, "{") || len(o.Path) > len(best.Path) {
			best = o
		}
	}
	return best
}

// follow resolves a reference.
func (s *Spec) follow(n node) node {
	for {
		ref := n.text("$ref")
		if ref == "" {
			return n
		}
		n = s.root.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
}

func (s *Spec) parameters(o *Operation) []node {
	list, _ := o.parts["parameters"].([]any)
	out := make([]node, len(list))
	for i, p := range list {
		out[i] = s.follow(asNode(p))
	}
	return out
}

// CheckRequest returns what is wrong with a request.
func (s *Spec) CheckRequest(o *Operation, query url.Values, body []byte) error {
	var errs []error
	known := map[string]bool{}
	for _, p := range s.parameters(o) {
		name := p.text("name")
		switch p.text("in") {
		case "query":
			known[name] = true
			if p.flag("required") && !query.Has(name) {
				errs = append(errs, fmt.Errorf("query parameter %s is missing", name))
			}
			for _, v := range query[name] {
				errs = append(errs, scalar(p, "?"+name, v))
			}
		case "body":
			if len(body) == 0 {
				if p.flag("required") {
					errs = append(errs, errors.New("the body is missing"))
				}
				continue
			}
			errs = append(errs, s.checkJSON(asNode(p["schema"]), body))
		}
	}
	for name := range query {
		if !known[name] {
			errs = append(errs, fmt.Errorf("query parameter %s is not known", name))
		}
	}
	return errors.Join(errs...)
}

// scalar checks a query parameter.
func scalar(p node, at, value string) error {
	var err error
	switch p.text("type") {
	case "integer":
		_, err = strconv.ParseInt(value, 10, 64)
	case "boolean":
		_, err = strconv.ParseBool(value)
	}
	if err == nil {
		err = enum(p, at, value)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

// CheckAnswer returns what is wrong with an answer.
func (s *Spec) CheckAnswer(o *Operation, status int, contentType string, body []byte) error {
	r, ok := o.parts.at("responses")[strconv.Itoa(status)]
	if !ok {
		return fmt.Errorf("status %d is not among those of the operation", status)
	}
	schema := asNode(s.follow(asNode(r))["schema"])
	if schema == nil || schema.text("format") == "binary" {
		return nil
	}
	if t, _, _ := mime.ParseMediaType(contentType); t != "application/json" && t != "application/jsonl" {
		if schema.text("type") == "string" {
			return nil // plain text
		}
		return fmt.Errorf("the answer is %q, not JSON", contentType)
	}
	return s.checkJSON(schema, body)
}

// checkJSON checks a body, which may be a stream of values.
func (s *Spec) checkJSON(schema node, body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	for n := 0; ; n++ {
		var v any
		if err := dec.Decode(&v); errors.Is(err, io.EOF) && n > 0 {
			return nil
		} else if err != nil {
			return fmt.Errorf("JSON: %w", err)
		}
		if err := errors.Join(s.check(schema, "", v)...); err != nil {
			return err
		}
	}
}
