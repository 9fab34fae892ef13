package docker

import "net/http"

// fromBrowser refuses what a web page sends: no client of the API runs in one, and
// a page that a user of this machine looks at must not reach it by their browser,
// whatever name or certificate that has (DNS rebinding, cross-site requests).
func fromBrowser(r *http.Request) error {
	for _, key := range []string{"Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode"} {
		if r.Header.Get(key) != "" {
			return &apiError{"requests of web browsers are refused: the header " + key + " is set", http.StatusForbidden}
		}
	}
	return nil
}
