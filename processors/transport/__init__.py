"""Records in and out of Kafka: batches for agents, an outbox with acknowledgements, Faust apps that lose nothing."""
