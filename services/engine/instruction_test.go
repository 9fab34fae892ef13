package engine

import (
	"encoding/json"
	"strings"
	"testing"

	api "github.com/moby/moby/api/types/container"
)

func TestChange(t *testing.T) {
	for name, c := range map[string]struct {
		changes []string
		want    string // parts of the config as JSON; "" for a refusal
	}{
		"list":         {[]string{`CMD ["a", "b"]`}, `"Cmd":["a","b"]`},
		"shell":        {[]string{`cmd echo $HOME "x"`}, `"Cmd":["/bin/sh","-c","echo $HOME \"x\""]`},
		"entry":        {[]string{`ENTRYPOINT ["e"]`}, `"Cmd":null | "Entrypoint":["e"]`},
		"entry, cmd":   {[]string{`CMD ["c"]`, `ENTRYPOINT ["e"]`}, `"Cmd":["c"] | "Entrypoint":["e"]`},
		"env":          {[]string{`ENV A=1 B="two words" C=$A-${B} D='$A' PATH=/x`, `ENV E some $text here`}, `"Env":["PATH=/x","A=1","B=two words","C=-","D=$A","E=some $text here"]`},
		"env later":    {[]string{`ENV A=1`, `ENV B=$A`}, `"A=1","B=1"`},
		"label":        {[]string{`LABEL a=b "c d"="e f"`}, `"a":"b" | "c d":"e f" | "old":"label"`},
		"expose":       {[]string{`EXPOSE 80 53/udp 8000-8001`}, `"53/udp":{} | "80/tcp":{} | "8001/tcp":{}`},
		"user":         {[]string{`USER app:app`}, `"User":"app:app"`},
		"workdir":      {[]string{`WORKDIR /a`, `WORKDIR b`}, `"WorkingDir":"/a/b"`},
		"volume":       {[]string{`VOLUME /a /b`, `VOLUME ["/c"]`}, `"Volumes":{"/a":{},"/b":{},"/c":{}}`},
		"signal":       {[]string{`STOPSIGNAL SIGINT`}, `"StopSignal":"SIGINT"`},
		"health":       {[]string{`HEALTHCHECK --interval=5s --retries=2 CMD ["t"]`}, `"Test":["CMD","t"] | "Interval":5000000000 | "Retries":2`},
		"health shell": {[]string{`HEALTHCHECK CMD test -e /x`}, `"Test":["CMD-SHELL","test -e /x"]`},
		"no health":    {[]string{`HEALTHCHECK NONE`}, `"Test":["NONE"]`},
		"onbuild":      {[]string{`ONBUILD RUN make`}, `"OnBuild":["RUN make"]`},
		"two lines":    {[]string{"LABEL a=\\\nb\n# nothing\nUSER x"}, `"a":"b" | "User":"x"`},
		"run":          {[]string{`RUN true`}, ""},
		"empty":        {[]string{`USER`}, ""},
		"open quote":   {[]string{`LABEL a="b`}, ""},
		"no pair":      {[]string{`ENV A=1 B`}, ""},
		"port":         {[]string{`EXPOSE x`}, ""},
		"bad signal":   {[]string{`STOPSIGNAL NOSUCH`}, ""},
		"bad health":   {[]string{`HEALTHCHECK --odd=1 CMD x`}, ""},
		"chained":      {[]string{`ONBUILD ONBUILD RUN x`}, ""},
	} {
		before := &api.Config{Cmd: []string{"old"}, Env: []string{"PATH=/bin"}, Labels: map[string]string{"old": "label"}}
		got, err := change(before, c.changes)
		if (err != nil) != (c.want == "") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, _ := json.Marshal(got)
		for part := range strings.SplitSeq(c.want, " | ") {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s: no %s in %s", name, part, text)
			}
		}
		if len(before.Labels) != 1 || len(before.Env) != 1 || before.Env[0] != "PATH=/bin" {
			t.Errorf("%s: it changed what it was given", name)
		}
	}
}

func FuzzChange(f *testing.F) {
	f.Add("ENV A=$B \"c\\d\"")
	f.Add("HEALTHCHECK --interval=1s CMD x")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := change(&api.Config{}, []string{text})
		if err == nil && c == nil {
			t.Error("neither a config nor an error")
		}
	})
}
