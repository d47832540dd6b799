"""The handlers of `mq.MQService`, written against `mq.server.call.Call`."""
