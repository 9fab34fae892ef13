package engine

import (
	"fmt"
	"testing"
)

func TestDeviceRule(t *testing.T) {
	for text, want := range map[string]string{
		"c 1:3 rwm": "c 1:3 rwm", "b *:* r": "b *:* r", "a *:* rwm": "a *:* rwm", "c 13:* w": "c 13:* w",
		"": "", "x 1:3 r": "", "c 1:3": "", "c 1 r": "", "c 1:3 x": "", "c 1:99999999999 r": "", "c 1:3 r ": "",
	} {
		rule, err := deviceRule(text)
		number := func(p *int64) string {
			if p == nil {
				return "*"
			}
			return fmt.Sprint(*p)
		}
		got := ""
		if err == nil {
			got = fmt.Sprintf("%s %s:%s %s", rule.Type, number(rule.Major), number(rule.Minor), rule.Access)
		}
		if got != want {
			t.Errorf("%q: %q (%v), want %q", text, got, err, want)
		}
	}
}
