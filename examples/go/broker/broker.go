// Package broker connects to an mq broker the way long-lived clients do.
package broker

import (
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	mqpb "mq.example/gen/mq"
)

// Address is $BROKER_HOST:$BROKER_PORT, by default localhost:50051.
func Address() string {
	return env("BROKER_HOST", "localhost") + ":" + env("BROKER_PORT", "50051")
}

func env(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

// Dial returns a client of the broker at address, and a function that closes
// its connection. It pings every 10 seconds, with calls in flight or without,
// so that a connection lost on the way is noticed.
func Dial(address string) (mqpb.MQServiceClient, func() error, error) {
	conn, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:                10 * time.Second,
			Timeout:             5 * time.Second,
			PermitWithoutStream: true,
		}),
	)
	if err != nil {
		return nil, nil, err
	}
	return mqpb.NewMQServiceClient(conn), conn.Close, nil
}
