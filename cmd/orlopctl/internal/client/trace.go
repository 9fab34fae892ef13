package client

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// TraceVariable is the environment variable that makes every call show on the
// standard error: when it began after the program's connection was made, what
// it was, how long it took, and how it ended.
const TraceVariable = "ORLOP_TRACE"

// tracing are the options that trace, if that is asked for.
func tracing() []grpc.DialOption {
	if os.Getenv(TraceVariable) == "" {
		return nil
	}
	return []grpc.DialOption{grpc.WithUnaryInterceptor(traceTo(os.Stderr, time.Now()))}
}

func traceTo(w io.Writer, zero time.Time) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, q, r any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		begin := time.Now()
		err := call(ctx, method, q, r, conn, opts...)
		fmt.Fprintf(w, "%9.3fms %s %.3fms %s\n", float64(begin.Sub(zero).Microseconds())/1000, method,
			float64(time.Since(begin).Microseconds())/1000, status.Code(err))
		return err
	}
}
