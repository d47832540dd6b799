// A load generator that is no Python: one message a call, a fixed number of
// calls in flight on one connection, to mq or to NATS JetStream; or, with a rate,
// from when a message is due to when a waiting pull of mq has it. It prints one
// JSON object. `python -m bench native` builds and runs it.
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// publish sends one message and returns once it is acknowledged.
type publish func(content []byte) error

func main() {
	broker := flag.String("broker", "mq", "mq or nats")
	address := flag.String("address", "", "host:port")
	stream := flag.String("stream", "", "an existing channel, or a stream that is made")
	width := flag.Int("width", 1, "messages in flight")
	size := flag.Int("size", 100, "bytes a message")
	duration := flag.Duration("time", time.Second, "how long to go on")
	rate := flag.Float64("rate", 0, "messages a second to a waiting pull of mq; 0: as fast as can be")
	flag.Parse()

	if *rate > 0 {
		found, err := paced(*address, *stream, *rate, *size, *duration)
		if err != nil {
			fail(err)
		}
		json.NewEncoder(os.Stdout).Encode(map[string]any{
			"receipt":      quantiles(found.receipt),
			"acknowledged": quantiles(found.acknowledged),
			"lag":          quantiles(found.lag),
		})
		return
	}

	connect := map[string]func(string, string) (publish, func(), error){
		"mq": connectMQ, "nats": connectNATS,
	}[*broker]
	if connect == nil {
		fail(fmt.Errorf("no such broker: %s", *broker))
	}
	send, disconnect, err := connect(*address, *stream)
	if err != nil {
		fail(err)
	}
	defer disconnect()
	if _, _, err := load(send, *width, *size, *duration/5); err != nil {
		fail(err)
	}
	latencies, elapsed, err := load(send, *width, *size, *duration)
	if err != nil {
		fail(err)
	}
	slices.Sort(latencies)
	quantile := func(q float64) float64 {
		return float64(latencies[int(q*float64(len(latencies)-1))]) / 1e3
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"messages":       len(latencies),
		"seconds":        elapsed.Seconds(),
		"messages_per_s": float64(len(latencies)) / elapsed.Seconds(),
		"p50_us":         quantile(0.5),
		"p99_us":         quantile(0.99),
	})
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// load keeps width messages in flight and times each.
func load(send publish, width, size int, duration time.Duration) ([]time.Duration, time.Duration, error) {
	perWorker := make([][]time.Duration, width)
	errs := make([]error, width)
	began := time.Now()
	var workers sync.WaitGroup
	for worker := range width {
		workers.Add(1)
		go func() {
			defer workers.Done()
			content := make([]byte, size)
			rand.Read(content)
			for time.Since(began) < duration {
				before := time.Now()
				if errs[worker] = send(content); errs[worker] != nil {
					return
				}
				perWorker[worker] = append(perWorker[worker], time.Since(before))
			}
		}()
	}
	workers.Wait()
	elapsed := time.Since(began)
	for _, err := range errs {
		if err != nil {
			return nil, 0, err
		}
	}
	return slices.Concat(perWorker...), elapsed, nil
}

// bytesCodec hands gRPC bytes as they are: the request is encoded by hand.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = slices.Clone(data); return nil }
func (bytesCodec) Name() string                       { return "proto" }

// invoker is what of a connection is used.
type invoker interface {
	Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error
}

func dialMQ(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
}

func connectMQ(address, channel string) (publish, func(), error) {
	connection, err := dialMQ(address)
	if err != nil {
		return nil, nil, err
	}
	send := func(content []byte) error {
		request := appendField(appendField(nil, 1, []byte(channel)), 2, content)
		var response []byte
		return connection.Invoke(context.Background(), "/mq.MQService/Publish", &request, &response)
	}
	return send, func() { connection.Close() }, nil
}

// appendField appends a length-delimited protobuf field.
func appendField(buffer []byte, number uint64, value []byte) []byte {
	buffer = binary.AppendUvarint(buffer, number<<3|2)
	buffer = binary.AppendUvarint(buffer, uint64(len(value)))
	return append(buffer, value...)
}

func connectNATS(address, stream string) (publish, func(), error) {
	connection, err := nats.Connect("nats://" + address)
	if err != nil {
		return nil, nil, err
	}
	jetstream, err := connection.JetStream()
	if err != nil {
		return nil, nil, err
	}
	config := nats.StreamConfig{Name: stream, Subjects: []string{stream}, Storage: nats.FileStorage}
	if _, err := jetstream.AddStream(&config); err != nil {
		return nil, nil, err
	}
	send := func(content []byte) error {
		_, err := jetstream.Publish(stream, content)
		return err
	}
	return send, connection.Close, nil
}
