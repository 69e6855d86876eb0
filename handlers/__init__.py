"""HTTP, WebSocket and event-stream endpoints: parse, authorise, call one service, answer."""
