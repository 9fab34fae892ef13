package remote

import "strings"

// Bounds of what is read of WWW-Authenticate.
const (
	maxChallengeBytes = 16 << 10
	maxChallenges     = 16
)

// challenge is a parsed challenge of a WWW-Authenticate header.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// parseChallenges reads headers as RFC 9110, section 11.6.1, has it: challenges
// and their parameters are both joined by commas. What isn't understood is passed
// over.
func parseChallenges(headers []string) []challenge {
	var out []challenge
	for _, h := range headers {
		s := scanner(h[:min(len(h), maxChallengeBytes)])
		for s != "" && len(out) < maxChallenges {
			s.skip(", \t")
			word := s.token()
			if word == "" {
				s = s[min(1, len(s)):]
				continue
			}
			c := challenge{scheme: strings.ToLower(word), params: map[string]string{}}
			s.params(c.params)
			out = append(out, c)
		}
	}
	return out
}

// scanner is what is left to read.
type scanner string

func (s *scanner) skip(chars string) { *s = scanner(strings.TrimLeft(string(*s), chars)) }

func isTokenChar(r rune) bool {
	return r > ' ' && r < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
}

func (s *scanner) token() string {
	end := strings.IndexFunc(string(*s), func(r rune) bool { return !isTokenChar(r) })
	if end < 0 {
		end = len(*s)
	}
	word := string((*s)[:end])
	*s = (*s)[end:]
	return word
}

// params reads key=value pairs until the next challenge begins.
func (s *scanner) params(into map[string]string) {
	for {
		s.skip(", \t")
		rest := *s
		key := rest.token()
		rest.skip(" \t")
		if key == "" || !strings.HasPrefix(string(rest), "=") {
			return // the end, or the next scheme
		}
		rest = rest[1:]
		rest.skip(" \t")
		into[strings.ToLower(key)] = rest.value()
		*s = rest
	}
}

func (s *scanner) value() string {
	if !strings.HasPrefix(string(*s), `"`) {
		end := strings.IndexAny(string(*s), ", \t")
		if end < 0 {
			end = len(*s)
		}
		v := string((*s)[:end])
		*s = (*s)[end:]
		return v
	}
	var b strings.Builder
	in := (*s)[1:]
	for i := 0; i < len(in); i++ {
		switch {
		case in[i] == '\\' && i+1 < len(in):
			i++
		case in[i] == '"':
			*s = in[i+1:]
			return b.String()
		}
		b.WriteByte(in[i])
	}
	*s = ""
	return b.String()
}
