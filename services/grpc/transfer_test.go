package grpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	streamapi "github.com/containerd/containerd/api/services/streaming/v1"
	transferapi "github.com/containerd/containerd/api/services/transfer/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/transfer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	edge "github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/services/streaming"
	"github.com/orlop/orlop/test/imagerig"
)

// door is the two services behind a connection in memory.
type door struct {
	t    *testing.T
	rig  *imagerig.Rig
	conn *grpc.ClientConn
	ctx  context.Context
}

func open(t *testing.T) *door {
	rig := imagerig.New(t)
	streams := streaming.New(streaming.DefaultConfig())
	srv := edge.NewServer([]edge.Service{&edge.Streaming{Manager: streams}, &edge.Transfer{Service: rig.Service, Streams: streams}})
	l := bufconn.Listen(1 << 20)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return l.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &door{t, rig, conn, metadata.AppendToOutgoingContext(context.Background(), "containerd-namespace", "default")}
}

func anyOf(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: string(proto.MessageName(m)), Value: data}
}

func (d *door) stream(ctx context.Context, id string) streamapi.Streaming_StreamClient {
	d.t.Helper()
	s, err := streamapi.NewStreamingClient(d.conn).Stream(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := s.Send(anyOf(d.t, &streamapi.StreamInit{ID: id})); err != nil {
		d.t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *door) transfer(ctx context.Context, from, to proto.Message, progress string) error {
	d.t.Helper()
	_, err := transferapi.NewTransferClient(d.conn).Transfer(ctx, &transferapi.TransferRequest{
		Source: anyOf(d.t, from), Destination: anyOf(d.t, to), Options: &transferapi.TransferOptions{ProgressStream: progress},
	})
	return err
}

var host = []*types.Platform{{OS: "linux", Architecture: "amd64"}}

func image(t *testing.T) imagerig.Image {
	return imagerig.NewImage(t, imagerig.Linux("amd64"), imagerig.Tar(t, imagerig.File{Name: "f", Data: []byte("data")}))
}

// Credentials are asked for over the stream, with the reference as it was written
// and what the registry said, once.
func TestAuthStream(t *testing.T) {
	for name, answer := range map[string]*transfer.AuthResponse{
		"password": {AuthType: transfer.AuthType_CREDENTIALS, Username: "user", Secret: "pw"},
		"header":   {AuthType: transfer.AuthType_HEADER, Secret: "Basic dXNlcjpwdw=="},
	} {
		t.Run(name, func(t *testing.T) {
			d, reg := open(t), imagerig.NewRegistry(t)
			reg.Password = "pw"
			reg.Put("app", "latest", image(t))
			s := d.stream(d.ctx, "auth")
			asked := make(chan *transfer.AuthRequest, 10)
			go func() {
				for {
					a, err := s.Recv()
					if err != nil {
						close(asked)
						return
					}
					var q transfer.AuthRequest
					a.UnmarshalTo(&q)
					asked <- &q
					s.Send(anyOf(t, answer))
				}
			}()
			ref := reg.Host + "/app" // without a tag
			err := d.transfer(d.ctx, &transfer.OCIRegistry{Reference: ref, Resolver: &transfer.RegistryResolver{AuthStream: "auth"}},
				&transfer.ImageStore{Name: "box", Platforms: host}, "")
			if err != nil {
				t.Fatal(err)
			}
			var all []*transfer.AuthRequest
			for q := range asked {
				all = append(all, q)
			}
			if len(all) != 1 || all[0].Host != reg.Host || all[0].Reference != ref || !strings.HasPrefix(all[0].Wwwauthenticate[0], "Basic") {
				t.Fatalf("asked %v", all)
			}
		})
	}
}

func TestAuthRefused(t *testing.T) {
	d, reg := open(t), imagerig.NewRegistry(t)
	reg.Password = "pw"
	reg.Put("app", "v1", image(t))
	s := d.stream(d.ctx, "auth")
	go func() {
		for {
			if _, err := s.Recv(); err != nil {
				return
			}
			s.Send(anyOf(t, &transfer.AuthResponse{}))
		}
	}()
	err := d.transfer(d.ctx, &transfer.OCIRegistry{Reference: reg.Host + "/app:v1", Resolver: &transfer.RegistryResolver{AuthStream: "auth"}}, &transfer.ImageStore{Name: "x"}, "")
	if status.Code(err) != codes.Unauthenticated {
		t.Fatal(err)
	}
}

// Cancelling the call ends the work and its streams at once, whatever it waits for.
func TestCancel(t *testing.T) {
	d, reg := open(t), imagerig.NewRegistry(t)
	reached := make(chan struct{})
	gone := make(chan struct{})
	reg.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		close(reached)
		<-r.Context().Done()
		close(gone)
		return true
	}
	// The connection's own goroutines come with its first call.
	d.transfer(d.ctx, &transfer.ImageStore{Name: "none"}, &transfer.ImageStore{Name: "x"}, "")
	before := runtime.NumGoroutine()
	progress := d.stream(d.ctx, "progress")
	ctx, cancel := context.WithCancel(d.ctx)
	go func() { <-reached; cancel() }()
	err := d.transfer(ctx, &transfer.OCIRegistry{Reference: reg.Host + "/app:v1"}, &transfer.ImageStore{Name: "x"}, "progress")
	if status.Code(err) != codes.Canceled {
		t.Fatal(err)
	}
	<-gone
	drain(progress)
	// An import waits for the client's bytes.
	in := d.stream(d.ctx, "import")
	ctx, cancel = context.WithCancel(d.ctx)
	go func() { in.Recv(); cancel() }() // the first window
	err = d.transfer(ctx, &transfer.ImageImportStream{Stream: "import"}, &transfer.ImageStore{Name: "x"}, "")
	if status.Code(err) != codes.Canceled {
		t.Fatal(err)
	}
	drain(in)
	// An export waits for the client's window.
	d.rig.Store("box", image(t))
	out := d.stream(d.ctx, "export")
	ctx, cancel = context.WithTimeout(d.ctx, 100*time.Millisecond)
	defer cancel()
	err = d.transfer(ctx, &transfer.ImageStore{Name: "box"}, &transfer.ImageExportStream{Stream: "export", AllPlatforms: true}, "")
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	drain(out)
	reg.CloseClientConnections()
	for range 500 { // those of the connections end in their own time
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines, before there were %d\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

// drain reads a stream to its end, which must come.
func drain(s streamapi.Streaming_StreamClient) {
	for {
		if _, err := s.Recv(); err != nil {
			return
		}
	}
}

// An export waits for its reader's windows, however small, and ends whole.
func TestExportWindows(t *testing.T) {
	d := open(t)
	d.rig.Store("docker.io/library/box:v1", image(t))
	for _, window := range []int32{1 << 20, 64 << 10, 700} {
		s := d.stream(d.ctx, "export")
		var got bytes.Buffer
		done := make(chan error, 1)
		go func() {
			left := int32(0)
			for {
				if left < window {
					s.Send(anyOf(t, &transfer.WindowUpdate{Update: window}))
					left += window
				}
				a, err := s.Recv()
				if errors.Is(err, io.EOF) {
					err = nil
					done <- err
					return
				}
				if err != nil {
					done <- err
					return
				}
				var m transfer.Data
				a.UnmarshalTo(&m)
				if left -= int32(len(m.Data)); left < 0 {
					done <- errors.New("more was sent than the window allows")
					return
				}
				got.Write(m.Data)
			}
		}()
		if err := d.transfer(d.ctx, &transfer.ImageStore{Name: "docker.io/library/box:v1"}, &transfer.ImageExportStream{Stream: "export", AllPlatforms: true}, ""); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got.Len()%512 != 0 || !bytes.HasSuffix(got.Bytes(), make([]byte, 1024)) {
			t.Fatalf("window %d: %d bytes, without a tar's end", window, got.Len())
		}
	}
}

// A client that sends more than it may is cut off, and nonsense is refused.
func TestBadClients(t *testing.T) {
	d := open(t)
	flood := d.stream(d.ctx, "flood")
	go func() {
		chunk := anyOf(t, &transfer.Data{Data: make([]byte, 2<<20)})
		for flood.Send(chunk) == nil {
		}
	}()
	err := d.transfer(d.ctx, &transfer.ImageImportStream{Stream: "flood"}, &transfer.ImageStore{Name: "x"}, "")
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("flood: %v", err)
	}
	s := d.stream(d.ctx, "wrong")
	s.Send(anyOf(t, &transfer.WindowUpdate{Update: 1}))
	err = d.transfer(d.ctx, &transfer.ImageImportStream{Stream: "wrong"}, &transfer.ImageStore{Name: "x"}, "")
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("wrong message: %v", err)
	}
	err = d.transfer(d.ctx, &transfer.ImageImportStream{Stream: "none"}, &transfer.ImageStore{Name: "x"}, "")
	if status.Code(err) != codes.NotFound {
		t.Errorf("unknown stream: %v", err)
	}
	err = d.transfer(d.ctx, &transfer.ImageStore{Name: "x"}, &transfer.ContainerPath{ContainerID: "c"}, "")
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown destination: %v", err)
	}
	err = d.transfer(d.ctx, &transfer.OCIRegistry{Reference: "a/b", Resolver: &transfer.RegistryResolver{DefaultScheme: "ftp"}}, &transfer.ImageStore{Name: "x"}, "")
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("unknown scheme: %v", err)
	}
	if _, err := transferapi.NewTransferClient(d.conn).Transfer(d.ctx, &transferapi.TransferRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("empty request: %v", err)
	}
}

// A progress stream that nobody reads holds nothing up.
func TestProgressNobodyReads(t *testing.T) {
	d, reg := open(t), imagerig.NewRegistry(t)
	reg.Put("app", "v1", image(t))
	d.stream(d.ctx, "progress")
	for range 3 {
		if err := d.transfer(d.ctx, &transfer.OCIRegistry{Reference: reg.Host + "/app:v1"}, &transfer.ImageStore{Name: "x"}, "progress"); err != nil {
			if status.Code(err) == codes.FailedPrecondition || status.Code(err) == codes.NotFound {
				return // the first call ended the stream
			}
			t.Fatal(err)
		}
	}
}
