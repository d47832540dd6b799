// Command publisher creates a channel and publishes numbered messages to it.
//
//	go run ./publisher -channel greetings -count 10
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"mq.example/broker"
	mqpb "mq.example/gen/mq"
)

const callTimeout = 10 * time.Second

type options struct {
	address  string
	channel  string
	text     string
	count    int
	interval time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.address, "address", broker.Address(), "the broker, host:port")
	flag.StringVar(&o.channel, "channel", "greetings", "the channel to publish to")
	flag.StringVar(&o.text, "text", "hello", "what each message begins with")
	flag.IntVar(&o.count, "count", 10, "how many messages; 0 goes on until interrupted")
	flag.DurationVar(&o.interval, "interval", 0, "how long to wait between two messages")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	client, closeConn, err := broker.Dial(o.address)
	if err != nil {
		return err
	}
	defer closeConn()

	if err := createChannel(ctx, client, o.channel); err != nil {
		return fmt.Errorf("create channel %q: %w", o.channel, err)
	}
	for n := 0; o.count == 0 || n < o.count; n++ {
		content := fmt.Sprintf("%s %d", o.text, n)
		if err := publish(ctx, client, o.channel, content); err != nil {
			return fmt.Errorf("publish %q: %w", content, err)
		}
		fmt.Println("published", content)
		if !pause(ctx, o.interval) {
			return nil
		}
	}
	return nil
}

// createChannel succeeds for a channel that exists, so it can be called at each start.
func createChannel(ctx context.Context, client mqpb.MQServiceClient, channel string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := client.CreateChannel(ctx, &mqpb.CreateChannelRequest{Channel: channel})
	return err
}

// publish returns once the broker has the message on its disk.
func publish(ctx context.Context, client mqpb.MQServiceClient, channel, content string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := client.Publish(ctx, &mqpb.PublishRequest{Channel: channel, Content: []byte(content)})
	return err
}

// pause waits for the interval, and is false if the program is asked to end.
func pause(ctx context.Context, interval time.Duration) bool {
	if interval <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(interval):
		return true
	}
}
