// What a kubelet's gRPC library thinks of src/rpc: grpc-go as a client of rpc_peer's server.
// Usage: grpc_go SOCKET; exit status 0 and "ok" if all is as it should be.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// raw passes bytes through: no generated messages are needed.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (raw) Name() string                       { return "proto" }

func must(good bool, format string, args ...any) {
	if !good {
		fmt.Printf(format+"\n", args...)
		os.Exit(1)
	}
}

func main() {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})),
	}
	if len(os.Args) > 2 {
		options = append(options, grpc.WithAuthority(os.Args[2]))
	}
	if len(os.Args) > 3 {
		idle, _ := time.ParseDuration(os.Args[3])
		options = append(options, grpc.WithIdleTimeout(idle))
	}
	conn, err := grpc.NewClient("unix://"+os.Args[1], options...)
	must(err == nil, "NewClient: %v", err)
	defer conn.Close()
	background := context.Background()
	call := func(ctx context.Context, method string, request []byte) ([]byte, error) {
		var reply []byte
		err := conn.Invoke(ctx, "/test.Echo/"+method, &request, &reply)
		return reply, err
	}

	for _, size := range []int{0, 1, 16384, 65536, 352000, 3900000} {
		request := bytes.Repeat([]byte{byte(size % 251)}, size)
		reply, err := call(background, "Echo", request)
		must(err == nil && bytes.Equal(reply, request), "echo of %d bytes: %v", size, err)
	}
	_, err = call(background, "Fail", []byte("5 100% ä\nnext"))
	must(status.Code(err) == codes.NotFound && status.Convert(err).Message() == "100% ä\nnext", "error text: %v", err)
	_, err = call(background, "Nope", nil)
	must(status.Code(err) == codes.Unimplemented, "unknown method: %v", err)
	_, err = call(background, "Size", []byte("4194304"))
	must(err == nil, "largest reply: %v", err)
	_, err = call(background, "Size", []byte("4194305"))
	must(status.Code(err) == codes.ResourceExhausted, "too large a reply: %v", err)

	short, cancel := context.WithTimeout(background, 200*time.Millisecond)
	_, err = call(short, "Never", nil)
	cancel()
	must(status.Code(err) == codes.DeadlineExceeded, "deadline: %v", err)

	watch, cancel := context.WithCancel(background)
	stream, err := conn.NewStream(watch, &grpc.StreamDesc{ServerStreams: true}, "/test.Echo/Count")
	must(err == nil, "stream: %v", err)
	request, reply := []byte("5"), []byte(nil)
	must(stream.SendMsg(&request) == nil && stream.CloseSend() == nil, "stream request")
	for i := 0; i < 5; i++ {
		err = stream.RecvMsg(&reply)
		must(err == nil && string(reply) == fmt.Sprint(i), "stream message %d: %q %v", i, reply, err)
	}
	err = stream.RecvMsg(&reply)
	must(err == io.EOF, "end of stream: %v", err)
	cancel()

	// A channel that goes idle hangs up and dials again at the next call.
	time.Sleep(700 * time.Millisecond)
	got, err := call(background, "Echo", []byte("again"))
	must(err == nil && string(got) == "again", "after a pause: %v", err)
	fmt.Println("ok")
}
