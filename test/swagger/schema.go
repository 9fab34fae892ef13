package swagger

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// check compares a value with a schema.
func (s *Spec) check(schema node, at string, v any) []error {
	nullable := schema.flag("x-nullable") || schema.flag("x-omitempty")
	schema = s.follow(schema)
	nullable = nullable || schema.flag("x-nullable")
	if len(asList(schema["allOf"])) > 0 {
		schema = s.merge(schema)
		nullable = nullable || schema.flag("x-nullable")
	}
	if v == nil {
		if nullable || len(schema) == 0 {
			return nil
		}
		return []error{fmt.Errorf("%s: null, which must be %s", at, kind(schema))}
	}
	switch kind(schema) {
	case "object":
		return s.object(schema, at, v)
	case "array":
		return s.array(schema, at, v)
	case "string":
		return one(stringValue(schema, at, v))
	case "integer", "number":
		return one(number(schema, at, v))
	case "boolean":
		if _, ok := v.(bool); !ok {
			return []error{fmt.Errorf("%s: %v is no boolean", at, v)}
		}
	}
	return nil
}

func one(err error) []error {
	if err == nil {
		return nil
	}
	return []error{err}
}

func asList(v any) []any { l, _ := v.([]any); return l }

// kind is a schema's type, which may be left out.
func kind(schema node) string {
	if t := schema.text("type"); t != "" {
		return t
	}
	if schema["properties"] != nil || schema["additionalProperties"] != nil {
		return "object"
	}
	return ""
}

// merge makes one schema of the parts of allOf.
func (s *Spec) merge(schema node) node {
	props, required := node{}, []any{}
	out := node{"type": "object"}
	for _, part := range append(asList(schema["allOf"]), map[string]any(schema)) {
		p := s.follow(asNode(part))
		if part := asNode(part); len(asList(part["allOf"])) == 0 && len(asList(p["allOf"])) > 0 {
			p = s.merge(p)
		}
		if t := p.text("type"); t != "" {
			out["type"] = t
		}
		for _, key := range []string{"x-nullable", "enum", "items", "additionalProperties", "format"} {
			if v, ok := p[key]; ok {
				out[key] = v
			}
		}
		maps.Copy(props, p.at("properties"))
		required = append(required, asList(p["required"])...)
	}
	if len(props) > 0 {
		out["properties"] = props
	}
	out["required"] = required
	return out
}

func (s *Spec) object(schema node, at string, v any) []error {
	obj, ok := v.(map[string]any)
	if !ok {
		return []error{fmt.Errorf("%s: %v is no object", at, v)}
	}
	var errs []error
	required := map[string]bool{}
	for _, name := range asList(schema["required"]) {
		required[name.(string)] = true
		if _, ok := obj[name.(string)]; !ok {
			errs = append(errs, fmt.Errorf("%s.%s: is missing", at, name))
		}
	}
	props := schema.at("properties")
	more, open := schema["additionalProperties"]
	for _, key := range slices.Sorted(maps.Keys(obj)) {
		name := at + "." + key
		switch p, known := props[key]; {
		case known && obj[key] == nil && !required[key]:
			// As the Engine does, null stands for what is left out.
		case known:
			errs = append(errs, s.check(asNode(p), name, obj[key])...)
		case open && asNode(more) != nil:
			errs = append(errs, s.check(asNode(more), name, obj[key])...)
		case !open && len(props) > 0 && !s.Open:
			errs = append(errs, fmt.Errorf("%s: is not known", name))
		}
	}
	return errs
}

func (s *Spec) array(schema node, at string, v any) []error {
	list, ok := v.([]any)
	if !ok {
		return []error{fmt.Errorf("%s: %v is no array", at, v)}
	}
	var errs []error
	for _, item := range list {
		errs = append(errs, s.check(schema.at("items"), at+"[]", item)...)
	}
	return errs
}

func stringValue(schema node, at string, v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("%s: %v is no string", at, v)
	}
	if f := strings.ToLower(strings.ReplaceAll(schema.text("format"), "-", "")); f == "datetime" && text != "" {
		if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
			return fmt.Errorf("%s: %q is no time", at, text)
		}
	}
	return enum(schema, at, text)
}

func enum(schema node, at, text string) error {
	list := asList(schema["enum"])
	if len(list) > 0 && !slices.ContainsFunc(list, func(v any) bool { return fmt.Sprint(v) == text }) {
		return fmt.Errorf("%s: %q is none of %v", at, text, list)
	}
	return nil
}

func number(schema node, at string, v any) error {
	n, ok := v.(json.Number)
	if !ok {
		return fmt.Errorf("%s: %v is no number", at, v)
	}
	if kind(schema) == "integer" && strings.ContainsAny(n.String(), ".eE") {
		return fmt.Errorf("%s: %v is no integer", at, v)
	}
	if strings.HasPrefix(schema.text("format"), "uint") && strings.HasPrefix(n.String(), "-") {
		return fmt.Errorf("%s: %v is below 0", at, v)
	}
	return nil
}
