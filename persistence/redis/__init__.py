"""The live state in Redis or Valkey: key names, scripts and the stores built on them."""
