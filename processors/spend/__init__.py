"""One ledger of paid calls: its entries, its book, its pruning."""
