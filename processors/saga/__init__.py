"""The rules of a saga as pure functions over values: no clock, no Kafka, no logging, no await."""
