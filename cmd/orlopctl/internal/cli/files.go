package cli

import "path/filepath"

func dirOf(name string) string { return filepath.Dir(name) }

// realPath is the absolute path without symlinks.
func realPath(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}
