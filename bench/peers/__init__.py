"""mq and the brokers it is compared with, each started and driven alike."""
