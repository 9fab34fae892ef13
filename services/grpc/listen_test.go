package grpc_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	wire "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/errdefs"
	ggrpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/services/grpc"
)

// A socket is for root, and only where nobody else can put another in its place.
func TestSocket(t *testing.T) {
	dir := t.TempDir()
	sock := grpc.Socket{Path: filepath.Join(dir, "sub", "d.sock")}
	l, err := sock.Listen()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(sock.Path)
	if err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := sock.Listen(); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second daemon: %v", err)
	}
	l.Close()
	// What a killed daemon leaves is replaced.
	if err := os.WriteFile(sock.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err = sock.Listen()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := sock.Listen(); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "chmod o-w "+dir) {
		t.Errorf("below a folder that everybody can write: %v", err)
	}
}

// The sizes of messages are the config's.
func TestMessageSizes(t *testing.T) {
	sock := grpc.Socket{Path: filepath.Join(t.TempDir(), "d.sock"), MaxSend: 64}
	door, err := grpc.Listen(sock, []grpc.Service{&grpc.Version{Release: strings.Repeat("9", 100)}})
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	conn, err := ggrpc.NewClient("unix://"+sock.Path, ggrpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := wire.NewVersionClient(conn).Version(t.Context(), &emptypb.Empty{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message of 100 bytes with a bound of 64: %v", err)
	}
}
