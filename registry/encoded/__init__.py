"""The encoded cache: rows as uncut token ids in memory-mapped Arrow shards, found again by what decides their ids."""
