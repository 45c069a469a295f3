"""The endpoint's page: the chain, its contract, and what went through it lately, for a browser on this machine."""
