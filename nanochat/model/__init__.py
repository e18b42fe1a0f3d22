"""The models: `anthropic` speaks the Messages API, `offline` is a demo that needs no key. Both are a `ports.Model`."""
