"""Records in and out of Kafka: batches for agents, a producer with acknowledgements, Faust apps that lose nothing."""
