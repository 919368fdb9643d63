"""Apps over the library: a chat page, an HTTP server and an MCP server."""
