package swagger

import (
	"net/url"
	"testing"
)

const small = `
swagger: "2.0"
definitions:
  Pet:
    type: object
    required: [Name]
    properties:
      Name: {type: string}
      Kind: {type: string, enum: [cat, dog]}
      Age: {type: integer, format: uint64}
      Born: {type: string, format: dateTime, x-nullable: true}
      Friends: {type: array, items: {$ref: "#/definitions/Pet"}}
      Labels: {type: object, additionalProperties: {type: string}}
  Owned:
    allOf:
      - $ref: "#/definitions/Pet"
      - type: object
        required: [Owner]
        properties: {Owner: {type: string}}
paths:
  /pets/{name}:
    get:
      operationId: PetInspect
      parameters:
        - {name: name, in: path, type: string}
        - {name: size, in: query, type: boolean}
        - {name: limit, in: query, type: integer, required: true}
      responses:
        200: {schema: {$ref: "#/definitions/Owned"}}
        404: {description: none}
  /pets/search:
    post:
      operationId: PetSearch
      parameters:
        - {name: pet, in: body, required: true, schema: {$ref: "#/definitions/Pet"}}
      responses:
        200: {schema: {type: array, items: {$ref: "#/definitions/Pet"}}}
`

func TestChecks(t *testing.T) {
	s, err := Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	get, post := s.Find("GET", "/pets/a/b"), s.Find("POST", "/pets/search")
	if get == nil || get.ID != "PetInspect" || post == nil || post.ID != "PetSearch" || s.Find("PUT", "/pets/x") != nil || s.Find("GET", "/other") != nil {
		t.Fatalf("found %v and %v", get, post)
	}
	for _, tt := range []struct {
		what string
		err  error
		ok   bool
	}{
		{"query", s.CheckRequest(get, url.Values{"limit": {"1"}, "size": {"true"}}, nil), true},
		{"missing parameter", s.CheckRequest(get, nil, nil), false},
		{"not an integer", s.CheckRequest(get, url.Values{"limit": {"x"}}, nil), false},
		{"not a boolean", s.CheckRequest(get, url.Values{"limit": {"1"}, "size": {"big"}}, nil), false},
		{"unknown parameter", s.CheckRequest(get, url.Values{"limit": {"1"}, "x": {"1"}}, nil), false},
		{"body", s.CheckRequest(post, nil, []byte(`{"Name":"a"}`)), true},
		{"no body", s.CheckRequest(post, nil, nil), false},
		{"bad body", s.CheckRequest(post, nil, []byte(`{"Name":1}`)), false},
		{"answer", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":"a","Kind":"cat","Age":3,"Born":null,"Labels":{"a":"b"}}]`)), true},
		{"nested", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":"a","Friends":[{"Name":"b","Born":"2026-01-02T03:04:05Z"}]}]`)), true},
		{"status", s.CheckAnswer(post, 201, "application/json", []byte(`[]`)), false},
		{"no JSON", s.CheckAnswer(post, 200, "text/plain", []byte(`[]`)), false},
		{"broken", s.CheckAnswer(post, 200, "application/json", []byte(`[`)), false},
		{"empty", s.CheckAnswer(post, 200, "application/json", nil), false},
		{"null array", s.CheckAnswer(post, 200, "application/json", []byte(`null`)), false},
		{"null in place of nothing", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":"a","Age":null}]`)), true},
		{"null for what must be", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":null}]`)), false},
		{"enum", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":"a","Kind":"cow"}]`)), false},
		{"missing", s.CheckAnswer(post, 200, "application/json", []byte(`[{}]`)), false},
		{"unknown", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":"a","X":1}]`)), false},
		{"fraction", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":"a","Age":1.5}]`)), false},
		{"below 0", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":"a","Age":-1}]`)), false},
		{"no time", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":"a","Born":"today"}]`)), false},
		{"bad label", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":"a","Labels":{"a":1}}]`)), false},
		{"bad friend", s.CheckAnswer(post, 200, "application/json", []byte(`[{"Name":"a","Friends":[{}]}]`)), false},
		{"parts", s.CheckAnswer(get, 200, "application/json", []byte(`{"Name":"a","Owner":"b"}`)), true},
		{"stream of them", s.CheckAnswer(get, 200, "application/json", []byte("{\"Name\":\"a\",\"Owner\":\"b\"}\n{\"Name\":\"a\"}")), false},
		{"without a body", s.CheckAnswer(get, 404, "", nil), true},
	} {
		if (tt.err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.what, tt.err)
		}
	}
}
