package script

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestVersions holds each difference between versions of the Docker API that a client
// without a swarm can see. Lines of testdata/version.txt are
//
//	SINCE METHOD PATH [BODY] | FIELD | BEFORE | NOW
//
// The request is made with the version before SINCE and with SINCE. FIELD is a path in the
// answer, such as 0.Health.Status, "status" or "header Content-Type"; BEFORE and NOW are its
// JSON, "-" if it isn't there, or "*" for any value. With "then METHOD PATH" FIELD is one of the
// answer to a second request, made in the newest version with $ID from the first. A line that
// starts with "do" is a request in the newest version that only has to succeed; in it $ID is the
// first ID of the last that had one.
func TestVersions(t *testing.T) {
	v := versioned{newChecker(t)}
	table, err := os.ReadFile("testdata/version.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(table), "\n") {
		at := fmt.Sprintf("version.txt:%d", i+1)
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "do "):
			code, _, answer := v.ask(newestVersion, strings.ReplaceAll(line[3:], "$ID", v.id))
			if code >= 400 {
				t.Fatalf("%s: status %d: %s", at, code, answer)
			}
			if m := anID.FindSubmatch(answer); m != nil {
				v.id = string(m[1])
			}
		default:
			v.row(at, line)
		}
	}
}

// versioned makes requests with versions.
type versioned struct{ *checker }

// ask makes the request "METHOD PATH [BODY]".
func (v versioned) ask(version, line string) (int, string, []byte) {
	method, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	path, text, _ := strings.Cut(rest, " ")
	body := v.files[text]
	if body == nil {
		body = []byte(text)
	}
	return v.send(method, "/"+version+path, body)
}

// row checks a line of the table.
func (v versioned) row(at, line string) {
	part := strings.Split(line, " | ")
	since, request, _ := strings.Cut(part[0], " ")
	n, err := strconv.Atoi(since)
	if err != nil || len(part) != 4 {
		v.t.Fatalf("%s: not like SINCE METHOD PATH | FIELD | BEFORE | NOW", at)
	}
	request, then, _ := strings.Cut(request, " then ")
	for i, version := range []int{n - 1, n} {
		code, contentType, answer := v.ask(fmt.Sprintf("v1.%d", version), request)
		var made struct{ ID string }
		json.Unmarshal(answer, &made)
		field := strings.TrimSpace(part[1])
		have := pick(field, answer)
		switch {
		case field == "status":
			have = strconv.Itoa(code)
		case field == "header Content-Type":
			have = contentType
		case code >= 400 && field != "message":
			v.t.Errorf("%s: 1.%d: status %d: %s", at, version, code, answer)
		case then != "":
			_, _, answer = v.ask(newestVersion, strings.ReplaceAll(then, "$ID", made.ID))
			have = pick(field, answer)
		}
		if want := strings.TrimSpace(part[2+i]); have != want && (want != "*" || have == "-") {
			v.t.Errorf("%s: 1.%d: %s of %q is %s, want %s", at, version, field, request, have, want)
		}
		if made.ID != "" && strings.Contains(request, "/containers/create") {
			v.send("DELETE", "/containers/"+made.ID+"?force=true", nil)
		}
	}
}

// pick is the JSON of a field by its path, "-" if there is none.
func pick(path string, data []byte) string {
	raw := json.RawMessage(data)
	for key := range strings.SplitSeq(path, ".") {
		var list []json.RawMessage
		if n, err := strconv.Atoi(key); err == nil && json.Unmarshal(raw, &list) == nil {
			if n >= len(list) {
				return "-"
			}
			raw = list[n]
			continue
		}
		var fields map[string]json.RawMessage
		if json.Unmarshal(raw, &fields) != nil || fields[key] == nil {
			return "-"
		}
		raw = fields[key]
	}
	return strings.TrimSpace(string(raw))
}
