"""Records in and out of Faust: batches for agents, offsets, and Faust apps that lose no record."""
