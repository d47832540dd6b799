// Command subscriber prints the messages of a channel, from its beginning or
// from now on.
//
//	go run ./subscriber -channel greetings -from beginning
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mq.example/broker"
	mqpb "mq.example/gen/mq"
)

type options struct {
	address      string
	channel      string
	from         string
	count        int
	pullInterval time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.address, "address", broker.Address(), "the broker, host:port")
	flag.StringVar(&o.channel, "channel", "greetings", "the channel to read; it must exist")
	flag.StringVar(&o.from, "from", "beginning", "where to start: beginning or latest")
	flag.IntVar(&o.count, "count", 0, "end after so many messages; 0 goes on until interrupted")
	flag.DurationVar(&o.pullInterval, "pull-interval", 100*time.Millisecond,
		"at most one batch is sent in this time")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	offset, err := parseOffset(o.from)
	if err != nil {
		return err
	}
	client, closeConn, err := broker.Dial(o.address)
	if err != nil {
		return err
	}
	defer closeConn()

	stream, err := client.Subscribe(ctx, &mqpb.SubscribeRequest{
		Channel:      o.channel,
		Offset:       offset,
		PullInterval: uint64(o.pullInterval.Milliseconds()),
	})
	if err != nil {
		return err
	}
	for n := 0; o.count == 0 || n < o.count; n++ {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
			return nil
		}
		if err != nil {
			return fmt.Errorf("subscribe to %q: %w", o.channel, err)
		}
		created := time.Unix(message.GetCreatedAt(), 0).UTC().Format(time.RFC3339)
		fmt.Printf("%s %s %s\n", message.GetId(), created, message.GetContent())
	}
	return nil
}

func parseOffset(from string) (mqpb.Offset, error) {
	switch from {
	case "beginning":
		return mqpb.Offset_OFFSET_BEGINNING, nil
	case "latest":
		return mqpb.Offset_OFFSET_LATEST, nil
	}
	return 0, fmt.Errorf("-from is %q: use beginning or latest", from)
}
