package engine

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/orlop/orlop/shims/manager"
)

// A run whose spec is nowhere must not be taken for an earlier one, whose record is there.
func TestLostSpec(t *testing.T) {
	for name, text := range map[string]string{"none": "", "torn": `{"process":`} {
		t.Run(name, func(t *testing.T) {
			bundle := t.TempDir()
			if text != "" {
				if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := &Container{ID: "c"}
			c.stored.Spec = raw{specType + "Spec", []byte(`{"process":{"args":["earlier"]}}`)}
			if err := c.recoverSpec(&manager.Task{Bundle: bundle}); err == nil {
				t.Error("recovered from nothing")
			}
			if m, err := new(Engine).made(context.Background(), c); err == nil {
				t.Errorf("it is known: %+v", m)
			}
		})
	}
}
