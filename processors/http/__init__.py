"""HTTP as fetch and enrich need it: guarded addresses, bounded bodies, and failures told apart."""
