package worded

import (
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
)

func TestTextAndClass(t *testing.T) {
	err := fmt.Errorf("%w", New(errdefs.ErrConflict, "name %q is taken", "web"))
	if err.Error() != `name "web" is taken` || !errdefs.IsConflict(err) {
		t.Errorf("%q, conflict %v", err, errdefs.IsConflict(err))
	}
}
