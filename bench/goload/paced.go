package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields of PullRequest, PullResponse, RecordBatch and Records.
const (
	pullChannel, pullOffset, pullMaxWaitMS     = 1, 2, 7
	answerBatches, answerNextOffset            = 1, 3
	batchBaseOffset, batchRecords, rowContents = 1, 15, 1
)

// waitMS is how long a pull waits for a message.
const waitMS = 1000

// pacedResult has the latencies of the messages, each counted from when it was due.
type pacedResult struct {
	receipt, acknowledged, lag []time.Duration
}

// paced publishes at a fixed rate, whatever the answers do, to a channel that one
// waiting pull after the other reads, over connections of their own.
func paced(address, channel string, rate float64, size int, duration time.Duration) (*pacedResult, error) {
	publisher, err := dialMQ(address)
	if err != nil {
		return nil, err
	}
	defer publisher.Close()
	subscriber, err := dialMQ(address)
	if err != nil {
		return nil, err
	}
	defer subscriber.Close()

	count := max(1, int(rate*duration.Seconds()))
	result := &pacedResult{
		acknowledged: make([]time.Duration, count), lag: make([]time.Duration, count),
	}
	began := time.Now()
	received := make(chan error, 1)
	go func() { received <- receive(subscriber, channel, count, began, &result.receipt) }()

	errs := make(chan error, count)
	var calls sync.WaitGroup
	first := time.Since(began) + 50*time.Millisecond
	for n := range count {
		due := first + time.Duration(float64(n)/rate*float64(time.Second))
		time.Sleep(due - time.Since(began))
		result.lag[n] = time.Since(began) - due
		calls.Add(1)
		go func() {
			defer calls.Done()
			content := make([]byte, size)
			binary.LittleEndian.PutUint64(content, uint64(due))
			request := appendField(appendField(nil, 1, []byte(channel)), 2, content)
			var response []byte
			err := publisher.Invoke(context.Background(), "/mq.MQService/Publish", &request, &response)
			result.acknowledged[n] = time.Since(began) - due
			if err != nil {
				errs <- err
			}
		}()
	}
	calls.Wait()
	select {
	case err := <-errs:
		return nil, err
	case err := <-received:
		return result, err
	}
}

// receive pulls count messages from a channel's beginning and notes how late each is.
func receive(connection invoker, channel string, count int, began time.Time, late *[]time.Duration) error {
	var offset uint64
	for len(*late) < count {
		request := protowire.AppendTag(nil, pullChannel, protowire.BytesType)
		request = protowire.AppendString(request, channel)
		request = protowire.AppendTag(request, pullOffset, protowire.VarintType)
		request = protowire.AppendVarint(request, offset)
		request = protowire.AppendTag(request, pullMaxWaitMS, protowire.VarintType)
		request = protowire.AppendVarint(request, waitMS)
		var response []byte
		if err := connection.Invoke(context.Background(), "/mq.MQService/Pull", &request, &response); err != nil {
			return err
		}
		now := time.Since(began)
		next := offset
		for batch := range lengths(response, answerBatches) {
			base, found := fixed64(batch, batchBaseOffset)
			if !found {
				return fmt.Errorf("a batch without an offset")
			}
			for records := range lengths(batch, batchRecords) {
				at := base
				for content := range lengths(records, rowContents) {
					if at >= offset {
						*late = append(*late, now-time.Duration(binary.LittleEndian.Uint64(content)))
					}
					at++
				}
			}
		}
		if after, found := fixed64(response, answerNextOffset); found {
			next = after
		}
		offset = next
	}
	return nil
}

// lengths goes through the length-delimited fields of one number.
func lengths(message []byte, number protowire.Number) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(message) > 0 {
			found, kind, tag := protowire.ConsumeTag(message)
			size := protowire.ConsumeFieldValue(found, kind, message[tag:])
			if tag < 0 || size < 0 {
				return
			}
			if found == number && kind == protowire.BytesType {
				value, _ := protowire.ConsumeBytes(message[tag:])
				if !yield(value) {
					return
				}
			}
			message = message[tag+size:]
		}
	}
}

// fixed64 is the value of a field of eight bytes.
func fixed64(message []byte, number protowire.Number) (uint64, bool) {
	for len(message) > 0 {
		found, kind, tag := protowire.ConsumeTag(message)
		size := protowire.ConsumeFieldValue(found, kind, message[tag:])
		if tag < 0 || size < 0 {
			return 0, false
		}
		if found == number && kind == protowire.Fixed64Type {
			value, _ := protowire.ConsumeFixed64(message[tag:])
			return value, true
		}
		message = message[tag+size:]
	}
	return 0, false
}

// quantiles are in microseconds.
func quantiles(latencies []time.Duration) map[string]float64 {
	slices.Sort(latencies)
	found := map[string]float64{}
	for name, q := range map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1} {
		found[name] = float64(latencies[int(q*float64(len(latencies)-1))]) / 1e3
	}
	return found
}
